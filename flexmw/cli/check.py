"""``flexmw check URL``: judge an OpenAI-compatible endpoint by the error contract, from outside.

A handful of bad requests, each sent once, none of which makes a server do any work; nothing is retried, no redirect is
followed and no key is sent but the one that is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from flexmw import __version__
from flexmw.cli.judge import Expected, judge
from flexmw.cli.table import table
from flexmw.errors import ConfigError

__all__ = ["HELP", "PROBES", "Probe", "Row", "arguments", "command", "examine"]

HELP = "judge an OpenAI-compatible endpoint by the error contract; exits with 1 if it is broken"
_MOST: Final = 64 * 1024
_LONGEST: Final = 3600
_CHAT: Final = "/chat/completions"
_NO_MODEL: Final = "flexmw-check-no-such-model"
_AUTH: Final = Expected((401,), "authentication_error", "invalid_api_key")


@dataclass(frozen=True, slots=True)
class Probe:
    """One bad request. ``key``: ``"given"`` sends the caller's, ``"wrong"`` one that cannot exist, ``"none"`` none."""

    name: str
    method: str
    path: str
    expected: Expected
    body: bytes | None = None
    key: str = "given"


@dataclass(frozen=True, slots=True)
class Row:
    """How one went. ``state``: ``ok``, ``broken``, ``skipped`` (it could not be judged; ``faults`` say why)."""

    name: str
    request: str
    answer: str
    state: str
    faults: list[str] = field(default_factory=list[str])


def _json(**value: Any) -> bytes:
    return json.dumps(value).encode()


PROBES: Final = (
    Probe("no key", "POST", _CHAT, _AUTH, _json(model=_NO_MODEL), key="none"),
    Probe("wrong key", "POST", _CHAT, _AUTH, _json(model=_NO_MODEL), key="wrong"),
    Probe("unknown route", "GET", "/flexmw-check/no-such-route", Expected((404,), "invalid_request_error")),
    Probe("unknown route, HEAD", "HEAD", "/flexmw-check/no-such-route", Expected((404,))),
    Probe("wrong method", "PUT", "/models", Expected((404, 405), "invalid_request_error"), b"{}"),
    Probe("malformed JSON", "POST", _CHAT, Expected((400,), "invalid_request_error"), b'{"model": '),
    Probe("no JSON object", "POST", _CHAT, Expected((400, 422), "invalid_request_error"), b'"text"'),
    Probe("missing field", "POST", _CHAT, Expected((400, 422), "invalid_request_error"), _json(model=_NO_MODEL)),
    Probe(
        "unknown model",
        "POST",
        _CHAT,
        Expected((400,), "invalid_request_error", "model_not_found"),
        _json(model=_NO_MODEL, messages=[{"role": "user", "content": "."}], max_tokens=1),
    ),
)
"""In order. The last one names a model that does not exist, so that nothing is generated."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="the endpoint; /v1 is added to a URL without a path")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable that holds an API key to send")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each request")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    key = None
    if arguments.key_env and not (key := os.environ.get(arguments.key_env)):
        raise ConfigError("--key-env", arguments.key_env, "an environment variable that is set")
    rows = list(examine(arguments.url, key=key, timeout=arguments.timeout))
    broken = any(row.state == "broken" for row in rows)
    if arguments.json:
        shown = [{name: getattr(row, name) for name in Row.__slots__} for row in rows]
        out.write(json.dumps({"url": arguments.url, "broken": broken, "rows": shown}, indent=2) + "\n")
    else:
        cells = [(row.state, row.name, row.request, row.answer, "; ".join(row.faults)) for row in rows]
        out.write(table(("", "probe", "request", "answer", ""), cells))
    return 1 if broken else 0


def examine(url: str, *, key: str | None = None, timeout: float = 10.0) -> Iterator[Row]:
    """Send every probe once and judge its answer.

    :param url: the endpoint, with its base path. :param key: an API key. :param timeout: seconds for each request.
    :raises ConfigError: it is no http URL, nothing answers there, or nobody can wait so long.
    """
    if not 0 < timeout <= _LONGEST:
        raise ConfigError("timeout", timeout, f"a number of seconds above 0, at most {_LONGEST}")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError("check", url, "a URL such as https://api.example.com/v1")
    base = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
    for probe in PROBES:
        sent = {"given": key, "wrong": "sk-flexmw-check-not-a-key", "none": None}[probe.key]
        try:
            status, headers, body = _ask(base, probe, sent, timeout)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if probe is PROBES[0]:
                raise ConfigError("check", url, f"a server that answers ({reason})") from error
            fault = f"no answer: {type(error).__name__}: {reason}"
            yield Row(probe.name, f"{probe.method} {probe.path}", "", "broken", [fault])
            continue
        yield _judged(probe, key, status, headers, body)


def _judged(probe: Probe, key: str | None, status: int, headers: Mapping[str, str], body: bytes) -> Row:
    expected, skipped = probe.expected, ""
    if probe.key == "given" and key is None and status == 401:
        expected, skipped = _AUTH, "needs a key: --key-env"
    elif probe.key != "given" and status in (400, 404, 422):
        expected, skipped = Expected((status,)), "asks for no key, or looks at the body first"
    elif status == 429:
        skipped = "rate limited: all that it shows is a 429"
    faults = judge(status, headers, body, expected, head=probe.method == "HEAD", now=time.time())
    state = "broken" if faults else "skipped" if skipped else "ok"
    return Row(probe.name, f"{probe.method} {probe.path}", str(status), state, faults or [skipped] * bool(skipped))


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an answer like any other, and a key does not go elsewhere."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        return None


_opener = build_opener(_NoRedirect)


def _ask(base: str, probe: Probe, key: str | None, timeout: float) -> tuple[int, dict[str, str], bytes]:
    request = Request(base + probe.path, data=probe.body, method=probe.method)  # noqa: S310  only http and https get here
    request.add_header("User-Agent", f"flexmw-check/{__version__}")
    request.add_header("Accept", "application/json")
    if probe.body is not None:
        request.add_header("Content-Type", "application/json")
    if key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with _opener.open(request, timeout=timeout) as response:
            return response.status, _lower(response.headers), response.read(_MOST)
    except HTTPError as error:
        with error:
            return error.code, _lower(error.headers), error.read(_MOST)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): ", ".join(headers.get_all(name)) for name in headers}
