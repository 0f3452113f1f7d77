"""One streamed response whose connection is cut again and again: lost, lost and said so, or whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

import flexmw
from examples.gateway.serve import Backend, Running
from examples.gateway.wire import CutWire, cutting
from examples.tour.scenes import CHAT, MODEL

__all__ = ["CUTS", "Streamed", "cut_streams"]

CUTS = 11
AFTER = 2_000
"""Bytes of the body after which a response is cut."""

TOKENS = 200


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What came of one streamed call."""

    client: str
    server: str
    cuts: int
    events: int
    executions: int
    silence: float
    ended: str


def cut_streams(
    running: Running, backend: Backend, draw: Callable[[str, int, int], None] = lambda name, events, cuts: None
) -> Iterator[Streamed]:
    """The same call three times: with nothing, with the client alone, with the client and the server.

    :param draw: called with the name of the client, the events read and the cuts so far, while a stream runs.
    """
    bare, guarded = "the SDK as it is", "with wrap_client"
    plain, wrapped = "the backend", "with wrap_app"
    key, _ = running.admin.create_key()
    for client, server in ((bare, plain), (guarded, plain), (guarded, wrapped)):
        target = backend.url if server is plain else running.url
        backend.forget()
        with cutting(target, cuts=CUTS, after=AFTER) as wire:
            http = _http(wire.url if server is wrapped else None) if client is guarded else None
            call = _Call(f"{client}, {server}", wire, draw)
            ended = call.run(key, http)
        yield Streamed(
            client=client,
            server=server,
            cuts=wire.cuts,
            events=call.events,
            executions=sum(backend.work().values()),
            silence=call.silence,
            ended=ended,
        )


def _http(honours_keys: str | None) -> httpx2.Client:
    origins = (honours_keys,) if honours_keys else ()
    return flexmw.wrap_client(openai.DefaultHttpxClient(), flexmw.Retry(auto_key=True, key_origins=origins))


class _Call:
    """One streamed call, and what its reader sees."""

    def __init__(self, name: str, wire: CutWire, draw: Callable[[str, int, int], None]) -> None:
        self._name, self._wire, self._draw = name, wire, draw
        self.events, self.silence = 0, 0.0

    def run(self, key: str, http: Any) -> str:
        """Read the stream to its end; how it has ended."""
        with openai.OpenAI(api_key=key, base_url=f"{self._wire.url}/v1", http_client=http) as sdk:
            try:
                chat = {**CHAT, "max_tokens": TOKENS}
                length = {"min_tokens": TOKENS}
                self._read(sdk.chat.completions.create(model=MODEL, stream=True, extra_body=length, **chat))
            except (openai.APIConnectionError, httpx2.TransportError) as error:
                outcome = flexmw.outcome_of(error)
                return f"lost, given back as {outcome.outcome}" if outcome else f"lost: {type(error).__name__}"
        return "whole"

    def _read(self, stream: Any) -> None:
        last = time.monotonic()
        for _ in stream:
            now = time.monotonic()
            self.events, self.silence, last = self.events + 1, max(self.silence, now - last), now
            self._draw(self._name, self.events, self._wire.cuts)
