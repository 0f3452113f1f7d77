"""What h11 and h2 say: a head that they reject was never sent, a complaint about the server is a lost response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openai
import pytest
from h2.settings import SettingCodes

import flexmw
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Exchange, Fault
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.parametrize("wire", WIRES, ids=str)


@dataclass(frozen=True)
class GoAwayThenAnswer(Fault):
    """GOAWAY and a whole response in one segment, as a server writes them that is being restarted."""

    protocol = "http2"

    def run(self, exchange: Any) -> None:
        exchange.execute()
        connection, number = exchange._connection, exchange.request.stream
        with connection.changed:
            connection.h2.send_headers(number, [(":status", "200"), ("content-length", "2")])
            connection.h2.send_data(number, b"ok", end_stream=True)
            last = number.to_bytes(4, "big")
            connection._wire.send(b"\0\0\x08\x07\0\0\0\0\0" + last + b"\0\0\0\0" + connection.h2.data_to_send())
            connection.end("fin")


@dataclass(frozen=True)
class ShortBody(Fault):
    """END_STREAM before the content length is reached; ``together``: head, body and end in one segment."""

    protocol = "http2"
    together: bool = False

    def run(self, exchange: Any) -> None:
        exchange.execute()
        if not self.together:
            exchange.start(200, (), 10)
            exchange.pause(0.1)
            exchange.send(b"abc")
            exchange.end()
            return
        connection, number = exchange._connection, exchange.request.stream
        with connection.changed:
            connection.h2.send_headers(number, [(":status", "200"), ("content-length", "10")])
            connection.h2.send_data(number, b"abc", end_stream=True)
            connection.flush()


@dataclass(frozen=True)
class OneStreamLeftOpen(Fault):
    """From now on the server takes one stream at a time, and this one stays open."""

    protocol = "http2"

    def run(self, exchange: Any) -> None:
        connection = exchange._connection
        with connection.changed:
            connection.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            connection.flush()
        exchange.start(503, (("Retry-After", "1"), ("Content-Type", "application/json")), 1000)
        exchange.send(b"{")
        exchange.pause(None)


def call(wire: Wire, method: str, server: HostileServer, *, times: int = 1, **request: Any) -> list[Any]:
    clock = FakeClock()
    options = {"http2": True, "verify": server.client_context()}
    return wire.call(method, server.url, flexmw.Retry(clock=clock), clock=clock, client=options, times=times, **request)


BREAKS: list[Fault] = [GoAwayThenAnswer(), ShortBody(together=True)]


@pytest.mark.parametrize("fault", BREAKS, ids=repr)
def test_a_complaint_about_what_the_server_sent_is_a_lost_response(wire: Wire, fault: Exchange) -> None:
    with HostileServer([fault], tls=True, http2=True) as server:
        [got] = call(wire, "GET", server)
        assert (got.status_code, len(server.requests)) == (200, 2)
    with HostileServer([fault], tls=True, http2=True) as server:
        [lost] = call(wire, "POST", server, json={})
        assert server.executions == 1
    assert (outcome(lost).outcome, outcome(lost).reason) == ("ambiguous", "unsafe_method")


def test_a_body_that_ends_before_its_length_over_http2_is_ambiguous(wire: Wire) -> None:
    with HostileServer([ShortBody()], tls=True, http2=True) as server:
        [lost] = call(wire, "POST", server, json={})
        assert server.executions == 1
    assert outcome(lost).outcome == "ambiguous"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_head_that_cannot_be_written_was_never_sent(wire: Wire, method: str) -> None:
    clock = FakeClock()
    with HostileServer() as server:
        [error] = wire.call(
            method, server.url, flexmw.Retry(clock=clock), clock=clock, headers={"Authorization": "Bearer sk-abc\n"}
        )
        assert not server.requests
    assert type(error).__name__ == "LocalProtocolError"
    assert (outcome(error).outcome, outcome(error).reason, clock.slept) == ("unsent", "local_error", [])


def test_too_many_open_streams_have_sent_nothing(wire: Wire) -> None:
    with HostileServer([OneStreamLeftOpen()], tls=True, http2=True) as server:
        [error] = call(wire, "POST", server, json={})
        assert server.executions == 0
    assert type(error).__name__ == "LocalProtocolError"
    assert (outcome(error).outcome, outcome(error).reason) == ("unsent", "attempts_exhausted")


def test_an_sdk_with_a_key_that_was_read_with_its_newline_has_sent_nothing(wire: Wire) -> None:
    if wire.name != "httpx2-sync":
        return
    http = flexmw.wrap_client(wire.library.Client(timeout=LONGEST_WAIT, trust_env=False))
    with (
        HostileServer() as server,
        openai.OpenAI(api_key="sk-abc\n", base_url=server.url, http_client=http, max_retries=0) as sdk,
    ):
        with pytest.raises(openai.APIConnectionError) as caught:
            sdk.models.list()
        assert not server.requests
    assert outcome(caught.value.__cause__).outcome == "unsent"
