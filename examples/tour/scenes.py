"""What the tour plays: one scene per row of the contract's page, each a call as a user of the openai SDK writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from examples.gateway.serve import Running

__all__ = ["SCENES", "Scene"]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 12}
MODEL = "alice-3gram"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """`call` works on the blocking and on the async SDK alike. `before` holds while it runs. `repeat` calls come first,
    to use something up."""

    row: str
    what: str
    call: Callable[[Any], Any]
    credit: int = 1_000_000
    tier: str = "paid"
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    before: Callable[[Running], AbstractContextManager[object]] = lambda running: nullcontext()
    repeat: int = 0
    fails: bool = True


def chat(**change: Any) -> Callable[[Any], Any]:
    return lambda sdk: sdk.chat.completions.create(**{"model": MODEL, **CHAT, **change})


def fault(name: str) -> tuple[tuple[str, str], ...]:
    return (("x-backend-fault", name),)


@contextmanager
def chat_offline(running: Running) -> Iterator[None]:
    with running.admin.offline(MODEL):
        yield


SCENES = (
    Scene(row="200", what="a chat completion", call=chat(), fails=False),
    Scene(row="200", what="the backend is busy once", call=chat(), headers=fault("503; once={id}"), fails=False),
    Scene(row="400", what="a model that does not exist", call=chat(model="foo")),
    Scene(row="400", what="n = 2", call=chat(n=2)),
    Scene(
        row="400",
        what="more input than the model holds",
        call=chat(messages=[{"role": "user", "content": "sea " * 9_000}]),
    ),
    Scene(row="401", what="a key that nobody has", call=chat(), key="sk-nobody-has-this-key"),
    Scene(row="402", what="no credit left", call=chat(), credit=0),
    Scene(
        row="404",
        what="a video job that does not exist",
        call=lambda sdk: sdk.get("/videos/generations/job_unknown", cast_to=object),
    ),
    Scene(row="429", what="the 11th call of a free key in a minute", call=chat(), tier="free", repeat=10),
    Scene(row="500", what="the backend does not respond in time", call=chat(), headers=fault("timeout")),
    Scene(row="500", what="the backend fails", call=chat(), headers=fault("500")),
    Scene(row="503", what="the model is under maintenance", call=chat(), before=chat_offline),
)
