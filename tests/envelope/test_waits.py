"""The wait of a refusal: one line, and no SDK that comes back too early or sleeps for hours."""

from __future__ import annotations

from typing import Any

import anthropic
import groq
import httpx
import openai
import pytest

import flexmw
from flexmw.contract.waits import longest_line
from tests.servers import ASGIApp, uvicorn_server
from tests.waiting import LONGEST_WAIT
from tests.wire import call

pytestmark = pytest.mark.anyio

DATE = b"Thu, 01 Jan 2026 00:00:00 GMT"


def refusing(*headers: tuple[bytes, bytes], status: int = 429) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b'{"detail": "Slow down."}'})

    return app


@pytest.mark.parametrize(
    ("lines", "longest"),
    [
        (["5", "60"], "60"),
        (["5, 60"], "60"),
        (["60", "soon", "-1", "0"], "60"),
        (["5", "Thu, 01 Jan 2026 00:01:00 GMT"], "Thu, 01 Jan 2026 00:01:00 GMT"),
        (["90", "Thu, 01 Jan 2026 00:01:00 GMT"], "90"),
        (["0.5", "0.25"], "0.5"),
        (["soon"], None),
        ([], None),
    ],
)
def test_the_longest_line_is_found(lines: list[str], longest: str | None) -> None:
    assert longest_line(lines, now=0.0, date=DATE.decode()) == longest


@pytest.mark.parametrize("status", [409, 429, 503])
async def test_several_lines_become_the_longest(status: int) -> None:
    lines = [(b"Retry-After", b"5"), (b"x-own", b"1"), (b"retry-after", b"34"), (b"retry-after", b"7")]
    seen = await call(flexmw.Envelope().asgi(refusing(*lines, status=status)))
    assert [pair for pair in seen.starts[0]["headers"] if pair[0].lower() == b"retry-after"] == [
        (b"Retry-After", b"34")
    ]
    assert seen.headers["x-own"] == "1"


async def test_a_line_that_names_no_wait_stays() -> None:
    seen = await call(flexmw.Envelope().asgi(refusing((b"retry-after", b"soon"), (b"retry-after", b"later"))))
    assert [value for name, value in seen.starts[0]["headers"] if name == b"retry-after"] == [b"soon", b"later"]


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        ([(b"retry-after", b"60")], None),
        ([(b"retry-after", b"61")], "false"),
        ([(b"retry-after-ms", b"60001")], "false"),
        ([(b"retry-after", b"1"), (b"retry-after-ms", b"3600000")], "false"),
        ([(b"date", DATE), (b"retry-after", b"Thu, 01 Jan 2026 06:00:00 GMT")], "false"),
        ([(b"date", DATE), (b"retry-after", b"Thu, 01 Jan 2026 00:00:30 GMT")], None),
        ([(b"retry-after", b"3600"), (b"x-should-retry", b"true")], "true"),
        ([], None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_long_wait_says_that_no_sdk_should_retry(
    headers: list[tuple[bytes, bytes]], advice: str | None, status: int
) -> None:
    seen = await call(flexmw.Envelope().asgi(refusing(*headers, status=status)))
    assert seen.headers.get("x-should-retry") == advice
    seen = await call(flexmw.Envelope(should_retry=False).asgi(refusing(*headers, status=status)))
    assert seen.headers.get("x-should-retry") == ("true" if advice == "true" else None)


async def test_a_refusal_without_an_envelope_says_it_too() -> None:
    app = flexmw.RateLimit("1/hour").asgi(refusing(status=200))
    await call(app)
    seen = await call(app)
    assert seen.status == 429
    assert seen.headers["x-should-retry"] == "false"


def test_no_sdk_repeats_a_request_whose_wait_is_long() -> None:
    requests: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            requests.append(scope["path"])
            await refusing((b"retry-after", b"3600"))(scope, receive, send)

    calls: list[Any] = []
    with uvicorn_server(flexmw.Envelope().asgi(app), lifespan="off") as served:
        messages: Any = [{"role": "user", "content": "x"}]
        calls = [
            lambda: openai.OpenAI(api_key="k", base_url=served.url).chat.completions.create(
                model="m", messages=messages
            ),
            lambda: groq.Groq(api_key="k", base_url=served.url).chat.completions.create(model="m", messages=messages),
            lambda: anthropic.Anthropic(api_key="k", base_url=served.url).messages.create(
                model="m", max_tokens=1, messages=messages
            ),
        ]
        for call_sdk, error in zip(
            calls, (openai.RateLimitError, groq.RateLimitError, anthropic.RateLimitError), strict=True
        ):
            with pytest.raises(error):
                call_sdk()
        assert len(requests) == 3
        assert httpx.get(served.url, timeout=LONGEST_WAIT).headers["x-should-retry"] == "false"
