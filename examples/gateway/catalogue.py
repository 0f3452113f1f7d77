"""What the gateway sells: the backend's models, a price for each, and which of them are offline just now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flexmw
from examples.gateway.store import Store

__all__ = ["PLAYGROUND", "Catalogue", "Model", "Usage"]

PLAYGROUND = "playground"
OFFLINE = "offline"
PRICES = {  # dollars per million tokens: of the input, of the output
    "alice-2gram": (1, 2),
    "alice-3gram": (3, 9),
    "alice-embed": (1, 0),
    "alice-speech": (10, 0),
    "alice-transcribe": (5, 5),
    "alice-image": (5, 40),
    "alice-video": (5, 80),
}
OTHER_PRICE = (2, 6)
OTHER_WINDOW = 8_192


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and tokens written, as the backend counted them."""

    read: int
    written: int = 0

    @classmethod
    def of(cls, response: Any) -> Usage | None:
        """The `usage` of a response, under either of the pairs of names that OpenAI gives its parts."""
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return None
        read = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
        return cls(read, usage.get("completion_tokens") or usage.get("output_tokens") or 0)


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    kind: str  # "" where the upstream does not say: then any route may try it
    window: int  # tokens
    price: tuple[int, int]  # millionths of a dollar per token, in and out

    def cost(self, usage: Usage) -> int:
        return usage.read * self.price[0] + usage.written * self.price[1]

    def card(self) -> dict[str, Any]:
        prices = {"input": self.price[0], "output": self.price[1], "unit": "USD per million tokens"}
        card = {"id": self.id, "object": "model", "created": 0, "owned_by": "flex"}
        return {**card, "context_window": self.window, "pricing": prices}


class Catalogue:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.models: dict[str, Model] = {}

    def stock(self, listing: Any) -> None:
        """Sell what an upstream lists. vLLM calls the context window `max_model_len`. Raises ConfigError."""
        entries = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.get("id") for entry in entries):
            raise flexmw.ConfigError(
                "upstream", str(listing)[:80], "a server whose GET /v1/models responds as OpenAI's"
            )
        for entry in entries:
            name, window = entry["id"], entry.get("context_window") or entry.get("max_model_len") or OTHER_WINDOW
            self.models[name] = Model(name, entry.get("kind", ""), window, PRICES.get(name, OTHER_PRICE))

    async def pick(self, name: str, kind: str) -> Model:
        """The model of that name, if it does this kind of work and is not offline."""
        model = self.models.get(name)
        if model is None:
            raise flexmw.ModelNotFound(name)
        if model.kind not in ("", kind):
            raise flexmw.InvalidRequest(f"The model {name!r} does {model.kind}, not {kind}.", param="model")
        await self.must_be_online(name, f"The model {name!r}")
        return model

    async def must_be_online(self, subsystem: str, said: str) -> None:
        if await self.store.read(OFFLINE, subsystem):
            raise flexmw.SubsystemOffline(said, retry_after=60)

    async def switch(self, subsystem: str, *, online: bool) -> None:
        """Take a model, or the playground, offline or bring it back. Raises ValueError for an unknown name."""
        if subsystem not in (*self.models, PLAYGROUND):
            raise ValueError(f"subsystem {subsystem!r}: expected one of {', '.join([*self.models, PLAYGROUND])}")
        if online:
            await self.store.delete(OFFLINE, subsystem)
        else:
            await self.store.write(OFFLINE, subsystem, {"by": "admin"})
