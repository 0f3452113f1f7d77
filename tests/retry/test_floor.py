"""The stand-in by hand that the benchmarks set beside Retry sends ordinary calls, and refuses what it cannot do."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from benchmarks.retry_floor import by_hand
from flexmw.testing import HostileServer

LIBRARIES = [httpx, httpx2]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_it_gives_back_a_response_and_notes_what_retry_would_act_on(library: Any) -> None:
    with HostileServer(["ok", "503", "cut-body"]) as server, by_hand(library) as client:
        good = client.post(server.url, json={})
        assert good.status_code == 200
        call = good.extensions["flexmw"]
        assert call.has_left
        assert "trace" not in call.request.extensions
        failed = client.post(server.url, json={})
        assert failed.extensions["flexmw"].odd[-1] == 503
        with client.stream("POST", server.url, json={}) as cut:
            call = cut.extensions["flexmw"]
            before = len(call.odd)
            with pytest.raises(library.RemoteProtocolError):
                cut.read()
            assert isinstance(call.odd[before], library.RemoteProtocolError)
        assert len(server.requests) == 3


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_it_refuses_a_call_that_is_not_ordinary(library: Any) -> None:
    with HostileServer([]) as server, by_hand(library) as client:
        with pytest.raises(NotImplementedError, match="ordinary requests only"):
            client.post(server.url, headers={"Idempotency-Key": "k"})
        assert not server.requests
