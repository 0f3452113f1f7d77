"""The page of failure modes, written by running them: ``python -m tests.envelope.table`` from the repository's root."""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import flexmw
from flexmw.contract import ErrorBody
from tests.envelope.conftest import MAKERS, wrapped
from tests.envelope.modes import MODES, Mode
from tests.envelope.test_modes import call, sdk_at
from tests.envelope.test_streams import chat
from tests.envelope.ways import differences
from tests.hosts.apps import HOSTS
from tests.hosts.test_errors import CASES, Case
from tests.servers import uvicorn_server
from tests.waiting import LONGEST_WAIT

TLS = ssl.create_default_context()  # made once: reading all certificates for each call takes longer than the call
PAGE = Path(__file__).parents[2] / "docs" / "envelope-modes.md"

STREAMS = [
    (16, "exception after a plain start, chunked", "chunked-crash", None),
    (17, "exception after a plain start, with a length", "length-crash", None),
    (18, "exception between events", "mid-stream", None),
    (19, "exception in FastAPI's own event stream", "native", "fastapi"),
    (20, "HTTPException before the first event", "before-first", None),
    (20, "the same in FastAPI's own event stream", "native-first", "fastapi"),
    (21, "exception inside an event", "half-event", None),
    (22, "exception after `[DONE]`", "after-done", None),
    (23, "exception between lines of JSON", "ndjson", None),
]

SOCKETS = [
    (57, "unknown route", "nowhere"),
    (57, "`WebSocketException` before accepting", "deny"),
    (58, "`HTTPException` before accepting", "http"),
    (59, "exception before accepting", "crash-before"),
    (59, "exception after accepting", "crash"),
    (59, "a raised kind after accepting", "kind"),
    (59, "the endpoint returns without closing", "leave"),
]

WITHOUT = [
    (14, "debug pages", "replaced, unless `debug=True`"),
    (
        25,
        "cancellation",
        "passes without a response; 500 `internal_error` where uvicorn ends and would send its own 500",
    ),
    (26, "the client leaves while its request is read", "nothing is sent, nothing is raised"),
    (56, "bytes that are no HTTP", "handled by the server itself; no ASGI app can change it"),
    (60, "`pathsend` on an error", "the file is not sent, the error is"),
    (62, "lifespan", "not touched"),
]


INSTALL = """
## Three ways to install it

`served = flexmw.wrap_app(app)` puts the Envelope outside everything, and reaches all of the rows below: also what other
middleware, mounted apps and the router send. Starlette and FastAPI handle crashes outside all of an app's middleware;
the Envelope sends its response through the `CORSMiddleware` of the app, so that a browser can read it.

`flexmw.install(app)` puts it around everything in an app of FastAPI, Starlette, Litestar or Quart, and leaves the app
the same object.

`app.add_middleware(flexmw.Envelope())` puts it where the framework's own middleware is. It misses what middleware
further outside sends (an untrusted host, a refused preflight, a body limit), and, where the app has a handler of its
own for `Exception` or 500, it leaves crashes to that handler.

FastAPI opens its server span outside of what is installed, and inside of what is wrapped. So with `install` the span
also covers what the components refuse; with `wrap_app`, Tagging opens one for a refusal.

None of them changes what a server sends by itself: bytes that are no HTTP, a full connection queue.

Litestar, Quart, Django, Falcon, BlackSheep and Sanic do not raise an exception that they have handled. There a raised
kind (`flexmw.APIError`) is remembered for its request, and takes the place of a response of its own status or of a bare
500; the log of the framework still shows it as the framework decides.
""".splitlines()


def render() -> str:
    """The whole page."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        urls = {name: stack.enter_context(uvicorn_server(wrapped(name))).url for name in MAKERS}
        others = {
            name: stack.enter_context(uvicorn_server(flexmw.Envelope(max_wait=0.5).asgi(make()))).url
            for name, make in HOSTS.items()
        }
        return (
            "\n".join([*_head(), *_modes(urls), *_streams(urls), *_sockets(urls), *_without(), *_others(others)]) + "\n"
        )


def _head() -> Iterator[str]:
    yield "# What becomes of every error"
    yield ""
    yield "Written by `python -m tests.envelope.table`, which runs every row over real sockets under uvicorn; the tests"
    yield "fail when this page and a run of it differ. A cell is the status and the `code` of the response, which is in"
    yield "the contract's shape unless the cell says otherwise. The last column is what the openai SDK"
    yield "raises."
    yield from INSTALL
    yield from _ways()


def _ways() -> Iterator[str]:
    yield from (
        "",
        "### What each way reaches",
        "",
        "The response depends on the way in these failures alone. In all others of this page, on FastAPI, Litestar and",
        "Quart, the three ways send the same status and `code`. The third way is `middleware=[...]` on Litestar and",
        "`app.asgi_app = flexmw.Envelope()(app.asgi_app)` on Quart.",
        "",
        "| failure | framework | `wrap_app` | `install` | `add_middleware` |",
        "|---|---|---|---|---|",
    )
    for what, framework, responses in differences():
        yield f"| {what} | {framework} | {' | '.join(responses)} |"


def _modes(urls: dict[str, str]) -> Iterator[str]:
    with sdk_at(urls["fastapi"]) as client:
        yield from _whole(urls, client)


def _whole(urls: dict[str, str], client: openai.OpenAI) -> Iterator[str]:
    yield from (
        "",
        "## Whole responses",
        "",
        "| # | failure | Starlette | FastAPI | openai SDK |",
        "|---|---|---|---|---|",
    )
    for mode in sorted(MODES, key=lambda mode: mode.number):
        cells = [_answer(urls[name], mode) if mode.only in (None, name) else "-" for name in ("starlette", "fastapi")]
        sdk = _sdk(client, mode) if mode.sdk else "-"
        yield f"| {mode.number} | {mode.what} | {cells[0]} | {cells[1]} | {sdk} |"


def _answer(url: str, mode: Mode | Case) -> str:
    headers = dict(mode.headers) if isinstance(mode, Mode) else {"content-type": "application/json"}
    answer = httpx.request(mode.method, url + mode.path, content=mode.send, headers=headers, timeout=10, verify=TLS)
    error = ErrorBody.decode(answer.content)
    if isinstance(mode, Mode) and mode.raw is not None and answer.content == mode.raw:
        return f"{answer.status_code}, as it came" if mode.raw else f"{answer.status_code}, no body"
    return f"{answer.status_code} `{error.code if error else None}`"


def _sdk(client: openai.OpenAI, mode: Mode) -> str:
    try:
        call(client, mode)
    except openai.APIStatusError as error:
        return f"`{type(error).__name__}` {f'`{error.code}`' if error.code else ''}".strip()
    return "nothing"


def _streams(urls: dict[str, str]) -> Iterator[str]:
    yield from ("", "## Streams", "", "| # | failure | Starlette | FastAPI |", "|---|---|---|---|")
    for number, what, path, only in STREAMS:
        cells = [_stream(urls[name], path) if only in (None, name) else "-" for name in ("starlette", "fastapi")]
        yield f"| {number} | {what} | {cells[0]} | {cells[1]} |"


def _stream(url: str, path: str) -> str:
    try:
        if path in ("chunked-crash", "length-crash"):
            httpx.get(f"{url}/{path}", timeout=LONGEST_WAIT)
        elif path == "ndjson":
            httpx.post(f"{url}/{path}/chat/completions", timeout=LONGEST_WAIT)
        else:
            return f"whole: {len(chat(url, path))} piece, no exception"
    except httpx.RemoteProtocolError:
        return "cut: a transport error, never a clean end"
    except openai.APIError as error:
        status = f"{error.status_code} " if isinstance(error, openai.APIStatusError) else ""
        return f"`{type(error).__name__}` {status}`{error.code}`"
    return "a clean end"


def _sockets(urls: dict[str, str]) -> Iterator[str]:
    yield from ("", "## Websockets", "", "| # | failure | Starlette | FastAPI |", "|---|---|---|---|")
    for number, what, path in SOCKETS:
        cells = [_socket(f"{urls[name].replace('http', 'ws')}/ws/{path}") for name in ("starlette", "fastapi")]
        yield f"| {number} | {what} | {cells[0]} | {cells[1]} |"


def _socket(url: str) -> str:
    try:
        with connect(url, proxy=None) as socket:
            while True:
                socket.recv(timeout=LONGEST_WAIT)
    except InvalidStatus as refused:
        return f"denied: {refused.response.status_code} `{json.loads(refused.response.body)['error']['code']}`"
    except ConnectionClosed as closed:
        frame = closed.rcvd
        return f"closed: {frame.code} {frame.reason}".strip() if frame else "no close frame"


def _without() -> Iterator[str]:
    yield from ("", "## Not seen in a response", "", "| # | failure | what happens |", "|---|---|---|")
    yield from (f"| {number} | {what} | {happens} |" for number, what, happens in WITHOUT)


def _others(urls: dict[str, str]) -> Iterator[str]:
    names = sorted(urls)
    titles = {"blacksheep": "BlackSheep"}
    yield from ("", "## Other hosts", "")
    yield f"| failure | {' | '.join(titles.get(name, name.title()) for name in names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for case in CASES:
        yield f"| {case.what} | {' | '.join(_answer(urls[name], case) for name in names)} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
