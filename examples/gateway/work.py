"""What may be asked of the models: one row per route, and the checks that come before any work is done. Pure.

>>> from examples.gateway.catalogue import Model
>>> fields = Fields({"model": "m", "messages": [{"role": "user", "content": "Oh dear!"}], "max_tokens": 9_000})
>>> order = WORK[0].order(fields, Model("m", "chat", window=8_192, price=(3, 9)))
>>> order.read, order.stream, order.body["max_tokens"]
(3, False, 2048)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flexmw
from examples.gateway.catalogue import Model
from examples.gateway.fields import Fields
from examples.gateway.model import count_tokens

__all__ = ["OUTPUT_CAP", "WORK", "Order", "Work"]

OUTPUT_CAP = 2_048  # tokens of a response that is not streamed


@dataclass(frozen=True)
class Order:
    """A request that was found good: what to send on, and what the response is to look like."""

    body: dict[str, Any]
    read: int  # tokens of its input
    stream: bool = False
    show_usage: bool = False


@dataclass(frozen=True)
class Work:
    """One route that a model does the work of. `field` is what fills the model's context window."""

    path: str
    kind: str
    field: str
    texts: Callable[[Fields], list[str]]
    writes: bool = False  # its response is text, which takes room in the context window and may be streamed

    def order(self, fields: Fields, model: Model) -> Order:
        """Read the request. Raises InvalidRequest."""
        fields.whole("n", 1, most=1)
        read = sum(map(count_tokens, self.texts(fields)))
        room = model.window - read
        if room < (1 if self.writes else 0):
            message = f"The input has {read} tokens; the context window of {model.id!r} holds {model.window}."
            raise flexmw.InvalidRequest(message, param=self.field, code="context_length_exceeded")
        return self._writing(fields, read, room) if self.writes else Order(fields.body, read)

    def _writing(self, fields: Fields, read: int, room: int) -> Order:
        stream, options = fields.flag("stream"), fields.inner("stream_options")
        cap = room if stream else min(room, OUTPUT_CAP)
        name = "max_completion_tokens" if "max_completion_tokens" in fields.body else "max_tokens"
        body = {**fields.body, name: min(fields.whole(name, cap), cap)}
        if stream:  # the bill needs the usage, whether the caller asked for it or not
            body["stream_options"] = {**options.body, "include_usage": True}
        return Order(body, read, stream, show_usage=options.flag("include_usage"))


WORK = (
    Work("/v1/chat/completions", "chat", "messages", Fields.messages, writes=True),
    Work("/v1/completions", "chat", "prompt", lambda fields: [fields.text("prompt")], writes=True),
    Work("/v1/embeddings", "embedding", "input", lambda fields: fields.texts("input")),
    Work("/v1/audio/speech", "speech", "input", lambda fields: [fields.text("input")]),
    Work("/v1/images/generations", "image", "prompt", lambda fields: [fields.text("prompt")]),
    Work("/v1/videos/generations", "video", "prompt", lambda fields: [fields.text("prompt")]),
)
