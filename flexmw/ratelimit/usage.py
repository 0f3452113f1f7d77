"""Usage: how many tokens one request has used, as the response reports them. Pure.

>>> usage = Usage(input_tokens=12, output_tokens=30, model="gpt-x")
>>> usage.total_tokens
42
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

__all__ = ["MAX_TOKENS", "Usage", "UsageReader", "count_of"]

MAX_TOKENS: Final = 2**53
"""No provider counts as many tokens. A Lua number holds each smaller one exactly."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one request.

    :ivar input_tokens: tokens that the model has read, cached ones included.
    :ivar output_tokens: tokens that the model has written, those of its reasoning included.
    :ivar total_tokens: what ``RateLimit(tokens=...)`` counts. Default: the sum of the two.
    :ivar cached_tokens: those of ``input_tokens`` that were read from a cache.
    :ivar model: the model that has responded; empty where the response does not say.
    :ivar details: the provider's own object, for prices that need more than the fields above.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = -1
    cached_tokens: int = 0
    model: str = ""
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.total_tokens < 0:
            object.__setattr__(self, "total_tokens", self.input_tokens + self.output_tokens)


@runtime_checkable
class UsageReader(Protocol):
    """Reads usage from the JSON of one API. A reader keeps no state of a request."""

    @property
    def marker(self) -> bytes:
        """Bytes that are in each event that reports usage. An event without them is not parsed."""
        ...

    def read(self, value: Mapping[str, Any], usage: Usage | None) -> Usage | None:
        """The usage after one JSON object: the body of a response, or the data of one event of a stream.

        :param value: the object.
        :param usage: what the events before it have reported; ``None`` for nothing.
        """
        ...

    def has_output(self, data: bytes) -> bool:
        """True if the data of an event is a part of the model's output. Such events are counted as one token each where
        a stream ends without usage."""
        ...

    def estimate(self, value: Mapping[str, Any], path: str) -> Usage:
        """The most that a request can be expected to use, by its JSON body.

        :param value: the body; empty where it is no JSON object.
        :param path: the path of the request.
        """
        ...


def count_of(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that is a number of tokens; ``None`` without one.

    >>> count_of({"prompt_tokens": 7, "total_tokens": True}, "total_tokens", "prompt_tokens")
    7
    """
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS:
            return value
    return None
