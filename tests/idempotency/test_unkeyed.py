"""A request without a key costs neither a look at its caller nor a hash."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.idempotency import Idempotency
from flexmw.idempotency.caller import CallerNames
from flexmw.idempotency.unkeyed import UnkeyedRequests

HEADERS = [(b"host", b"a.example"), (b"authorization", b"Bearer sk-1"), (b"content-type", b"application/json")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.anyio
async def test_nothing_of_the_caller_is_read_for_a_request_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(*args: object) -> None:
        raise AssertionError("the caller was looked at")

    monkeypatch.setattr(CallerNames, "shown", shown)
    protected, sent = Idempotency(storage="memory://", ttl=60.0).asgi(app), list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": list(HEADERS)}
        await protected(scope, None, send)  # type: ignore[arg-type]
    assert [message["headers"] for message in sent[::2]] == [[(b"idempotency-key-ttl", b"60")]] * 2


@pytest.mark.parametrize(
    "header",
    [(b"idempotency-key", b"k"), (b"cookie", b"a=b"), (b"x-signature", b"a"), (b"authorization", b"Digest a")],
)
def test_a_header_that_matters_is_noticed_wherever_it_stands(header: tuple[bytes, bytes]) -> None:
    unkeyed = UnkeyedRequests((b"idempotency-key",))
    assert unkeyed.recognises({"headers": HEADERS})
    for place in range(len(HEADERS) + 1):
        assert not unkeyed.recognises({"headers": [*HEADERS[:place], header, *HEADERS[place:]]})


@pytest.mark.parametrize(
    "headers", [iter(HEADERS), [(bytearray(b"accept"), b"a")], [(b"authorization", memoryview(b"a"))]]
)
def test_headers_in_another_form_are_left_to_a_closer_look(headers: Any) -> None:
    assert not UnkeyedRequests(()).recognises({"headers": headers})
    assert list(headers), "and are not read: ASGI allows headers that can be read only once"
