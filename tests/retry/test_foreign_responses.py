"""A response that is not the rest of the body that was asked for is refused, whoever has sent it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import httpx
import pytest

import flexmw
from flexmw import Retry
from flexmw.contract.idempotent_stream import STREAM, format_stream
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Received
from tests.clients.wires import WIRES, Wire
from tests.retry.stream_server import SSE, Cut, Piece, StreamServer

SIZE = 20
"""The bytes that the client has when its connection is cut."""
DIGEST = sha256(SSE[:SIZE]).digest()
ANOTHER = b"data: of another response\n\n" * 20
FOREIGN = {
    "no field, and the rest": (None, SSE[SIZE:], "stream_differs"),
    "no field, and another body": (None, ANOTHER, "stream_differs"),
    "no field, and nothing": (None, b"", "stream_differs"),
    "another digest": (lambda own: format_stream(own, SIZE, sha256(ANOTHER).digest()), SSE[SIZE:], "stream_differs"),
    "no digest": (lambda own: format_stream(own, SIZE), SSE[SIZE:], "stream_differs"),
    "another offset": (lambda own: format_stream(own, SIZE + 1, DIGEST), SSE[SIZE + 1 :], "stream_differs"),
    "another generation": (lambda _: format_stream("f" * 20, SIZE, DIGEST), SSE[SIZE:], "stream_changed"),
}


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize(("field", "body", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_response_to_a_continuation_is_refused(wire: Wire, field: Any, body: bytes, reason: str) -> None:
    script = StreamServer(cuts=[Cut(SIZE)])

    def respond(request: Received) -> Any:
        if not request.header(STREAM):
            return script(request)
        headers = {"content-type": "text/event-stream", "age": "60"}
        if field is not None:
            headers[STREAM] = field(script.kept["k-1"].generation)
        return Piece(headers, body, None, len(body), new=False)

    with HostileServer(respond) as server:
        policy = Retry(random=lambda: 0.0)
        (error,) = wire.call("POST", server.url, policy, headers={"idempotency-key": "k-1"}, json={})
    assert type(error).__name__ == httpx.RemoteProtocolError.__name__  # what the cut has raised
    outcome = flexmw.outcome_of(error)
    assert outcome is not None
    assert (outcome.reason, outcome.received) == (reason, SIZE)
    assert server.executions == 1
