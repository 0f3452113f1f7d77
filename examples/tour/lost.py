"""The point of it all, live: one POST whose response is lost twice, and how often the model worked for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

import flexmw
from examples.gateway.serve import Backend, Running
from examples.gateway.wire import lossy
from examples.tour.scenes import CHAT, MODEL

__all__ = ["Loss", "lose_answers"]

LOST = 2


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One way to make the call."""

    client: str
    server: str
    executions: int
    ended: str


def lose_answers(running: Running, backend: Backend) -> Iterator[Loss]:
    """The same call four times over: nothing guarded, the client, the server, both."""
    bare, guarded = "the SDK as it is", "with wrap_client"
    plain, wrapped = "the backend", "with wrap_app"
    key, _ = running.admin.create_key()
    for client in (bare, guarded):
        for server in (plain, wrapped):
            target = backend.url if server is plain else running.url
            backend.forget()
            with lossy(target, lose=LOST) as url:
                ended = _call(url, key, _http(client is guarded, url if server is wrapped else None))
            yield Loss(client=client, server=server, executions=sum(backend.work().values()), ended=ended)


def _http(guarded: bool, honours_keys: str | None) -> httpx2.Client | None:
    if not guarded:
        return None
    origins = (honours_keys,) if honours_keys else ()
    return flexmw.wrap_client(
        openai.DefaultHttpxClient(), flexmw.Retry(auto_key=True, key_origins=origins, attempts=LOST + 1)
    )


def _call(url: str, key: str, http: Any) -> str:
    with openai.OpenAI(api_key=key, base_url=f"{url}/v1", http_client=http) as sdk:
        try:
            sdk.chat.completions.create(model=MODEL, **CHAT)
        except openai.APIConnectionError as error:
            outcome = getattr(error.__cause__, "flexmw", None)
            return f"given back as {outcome.outcome}" if outcome else type(error).__name__
    return "answered"
