"""Every fault by name, as httpx and httpx2 see it, and how often the work was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from flexmw.testing import HostileServer, hostile
from flexmw.testing.hostile import FAULTS, Fault
from tests.testing.clients import LIBRARIES, RESET, aoutcome, options, outcome


@dataclass(frozen=True)
class Seen:
    """What the clients see, how much of a body of 100 bytes was read, how often it was executed."""

    outcomes: tuple[int | str, ...]
    read: int | None
    executions: int
    hangs: Literal["read", "connect"] | None = None
    tls: bool = False


SEEN: dict[str, Seen] = {
    "ok": Seen((200,), 100, 1),
    "rst-on-connect": Seen((*RESET, "ConnectError"), None, 0),
    "handshake-hang": Seen(("ConnectTimeout",), None, 0, hangs="connect", tls=True),
    "plain-text": Seen(("ConnectError",), None, 0, tls=True),
    "proxy-407": Seen((407,), 100, 0),
    "rst-unread": Seen(RESET, 0, 0),
    "rst-reading": Seen(RESET, 50, 0),
    "refused-stream": Seen(("RemoteProtocolError",), 0, 0),
    "goaway": Seen(("RemoteProtocolError",), 100, 0),
    "rst": Seen(("ReadError",), 100, 1),
    "fin": Seen(("RemoteProtocolError",), 100, 1),
    "hang": Seen(("ReadTimeout",), 100, 1, hangs="read"),
    "cut-head": Seen(("RemoteProtocolError",), 100, 1),
    "garbage": Seen(("RemoteProtocolError",), 100, 1),
    "cut-body": Seen(("RemoteProtocolError",), 100, 1),
    "cut-chunk": Seen(("RemoteProtocolError",), 100, 1),
    "rst-body": Seen(("ReadError",), 100, 1),
    "stall-body": Seen(("ReadTimeout",), 100, 1, hangs="read"),
    "slow-body": Seen((200,), 100, 1),
    "reset-stream": Seen(("RemoteProtocolError",), 100, 1),
    "goaway-late": Seen(("RemoteProtocolError",), 100, 1),
    "slow-error": Seen((503,), 100, 1),
    "big-error": Seen((500,), 100, 1),
    "stale": Seen((200,), 100, 1),
    "stale-race": Seen((200,), 100, 1),
    # statuses: an ambiguous one was executed, a refusal was not
    "200": Seen((200,), 100, 1),
    "408": Seen((408,), 100, 1),
    "409": Seen((409,), 100, 1),
    "429": Seen((429,), 100, 0),
    "429:seconds": Seen((429,), 100, 0),
    "500": Seen((500,), 100, 1),
    "500:should-not-retry": Seen((500,), 100, 1),
    "502": Seen((502,), 100, 1),
    "503": Seen((503,), 100, 1),
    "503:seconds": Seen((503,), 100, 0),
    "503:ms": Seen((503,), 100, 0),
    "504": Seen((504,), 100, 1),
}


def needs_http2(name: str) -> bool:
    fault = FAULTS.get(name)
    return isinstance(fault, Fault) and fault.protocol == "http2"


def test_the_table_has_a_line_for_every_fault() -> None:
    assert set(FAULTS) <= set(SEEN)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.__name__))
@pytest.mark.parametrize("name", SEEN)
def test_a_plain_client_sees_the_fault_and_the_execution_is_counted(name: str, library: Any) -> None:
    seen, http2 = SEEN[name], needs_http2(name)
    with HostileServer(name, http2=http2, tls=seen.tls) as server:
        with library.Client(**options(server, hangs=seen.hangs, http2=http2)) as client:
            assert outcome(lambda: client.post(f"{server.url}/orders", content=b"x" * 100)) in seen.outcomes
        server.wait_for(seen.executions)
        assert server.executions == seen.executions
        assert [len(request.body) for request in server.requests] == ([] if seen.read is None else [seen.read])
        assert [request.complete for request in server.requests] == ([] if seen.read is None else [seen.read == 100])
        server.wait_for(1, "closed")
        assert (server.connections, server.open_connections) == (1, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.__name__))
@pytest.mark.parametrize("name", ["rst", "fin", "hang", "cut-body", "stall-body", "503", "reset-stream", "plain-text"])
async def test_a_task_sees_the_same_fault(name: str, library: Any) -> None:
    seen, http2 = SEEN[name], needs_http2(name)
    with HostileServer(name, http2=http2, tls=seen.tls) as server:
        async with library.AsyncClient(**options(server, hangs=seen.hangs, http2=http2)) as client:
            assert await aoutcome(lambda: client.post(f"{server.url}/orders", content=b"x" * 100)) in seen.outcomes
        server.wait_for(seen.executions)
        assert server.executions == seen.executions


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.__name__))
@pytest.mark.parametrize("name", ["ok", "rst", "fin", "hang", "cut-body", "cut-chunk", "rst-body", "big-error", "503"])
def test_the_faults_of_both_protocols_happen_over_tls_too(name: str, library: Any) -> None:
    seen = SEEN[name]
    # The end of an encrypted stream without a farewell is an error of its own, and HTTP/2 clients write all the time.
    allowed = {*seen.outcomes, *(() if seen.hangs or isinstance(seen.outcomes[0], int) else RESET)}
    for http2 in (False, True):
        with HostileServer(name, tls=True, http2=http2) as server:
            with library.Client(**options(server, hangs=seen.hangs, http2=http2)) as client:
                assert outcome(lambda: client.post(f"{server.url}/orders", content=b"x" * 100)) in allowed
            server.wait_for(seen.executions)
            assert server.executions == seen.executions
            assert [bool(request.stream) for request in server.requests] == [http2]


def test_the_old_names_of_a_response_go_on_working_and_say_that_they_are_old() -> None:
    with pytest.warns(DeprecationWarning, match=r"hostile\.Answer is now flexmw\.testing\.hostile\.Response"):
        assert hostile.Answer is hostile.Response
    for kind in (hostile.Cut, hostile.Stall, hostile.Drip):
        with pytest.warns(DeprecationWarning, match=rf"{kind.__name__}\(answer=\.\.\.\) is now") as caught:
            fault = kind(answer=hostile.Response(503))  # type: ignore[call-arg]
        assert caught[0].filename == __file__
        assert fault == kind(response=hostile.Response(503))
        with pytest.warns(DeprecationWarning, match=r"\(answer=\.\.\.\) is now"):
            assert fault.answer == hostile.Response(503)  # type: ignore[attr-defined]
