"""Which statuses say that nothing was done: one table for the server component and for the hostile test server."""

from __future__ import annotations

import httpx
import pytest

from flexmw.contract.refusals import INCONCLUSIVE, REFUSED
from flexmw.idempotency.stored import is_stored
from flexmw.testing import HostileServer
from flexmw.testing.hostile.response import Response
from tests.waiting import LONGEST_WAIT


def test_a_conflict_is_the_one_inconclusive_status_that_is_no_refusal() -> None:
    assert {409} == INCONCLUSIVE - REFUSED


@pytest.mark.parametrize("status", sorted(INCONCLUSIVE))
def test_an_inconclusive_response_frees_the_idempotency_key(status: int) -> None:
    assert not is_stored(status, [])


@pytest.mark.parametrize("status", sorted((REFUSED - INCONCLUSIVE) | {200, 404, 500, 503}))
def test_any_other_response_is_stored_for_the_idempotency_key(status: int) -> None:
    assert is_stored(status, [])


@pytest.mark.parametrize("retry", ["none", "seconds"])
@pytest.mark.parametrize("status", sorted(REFUSED | INCONCLUSIVE | {200, 500, 503}))
def test_the_hostile_server_executes_what_it_does_not_refuse(status: int, retry: str) -> None:
    refused = status in REFUSED or (status == 503 and retry == "seconds")
    with HostileServer(Response(status, retry=retry)) as server:
        assert httpx.post(server.url, content=b"x", timeout=LONGEST_WAIT).status_code == status
        assert server.executions == (0 if refused else 1)
