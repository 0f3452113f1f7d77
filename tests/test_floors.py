"""The stand-ins that RateLimit is measured beside keep the promises that the page of performance says they keep."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.floors import limiter_floor
from flexmw import InvalidAPIKey, RateLimit
from flexmw.kit.exchange import Exchange

pytestmark = pytest.mark.anyio

REMAINING = b"x-ratelimit-remaining-requests"
NAMES = [b"x-ratelimit-limit-requests", REMAINING, b"x-ratelimit-reset-requests"]


class App:
    def __init__(self) -> None:
        self.status, self.headers, self.error = 200, list[tuple[bytes, bytes]](), Exception()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.status == 0:
            raise self.error
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b""})


async def head(limited: Any, token: bytes = b"Bearer a") -> tuple[Any, Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"authorization", token)]}
    await limited(scope, None, send)
    return sent[0], Exchange.of(scope).facts


def ratelimit(app: Any, limit: int) -> Any:
    return RateLimit(f"{limit}/minute").asgi(app)


@pytest.mark.parametrize("limited_by", [limiter_floor, ratelimit], ids=["by hand", "flexmw"])
async def test_a_limiter_by_hand_promises_what_ratelimit_does(limited_by: Any) -> None:
    app = App()
    limited = limited_by(app, 5)
    start, facts = await head(limited)
    assert ([name for name, _ in start["headers"]], dict(start["headers"])[REMAINING]) == (NAMES, b"4")
    assert facts["flexmw.rate_limiting.remaining"] == 4
    app.status, app.headers = 404, [(b"X-RateLimit-Remaining-Requests", b"7")]
    start, _ = await head(limited)
    assert [name.lower() for name, _ in start["headers"]].count(REMAINING) == 1
    app.status, app.error = 0, InvalidAPIKey()
    with pytest.raises(InvalidAPIKey):
        await head(limited)
    app.status, app.headers = 401, []
    start, _ = await head(limited)
    assert dict(start["headers"])[REMAINING] == b"1"
    await head(limited)
    start, _ = await head(limited)
    assert start["status"] == 429
    assert int(dict(start["headers"])[b"retry-after"]) in range(40, 61)
    assert (await head(limited, b"Bearer b"))[0]["status"] == 401
