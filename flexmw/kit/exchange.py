"""One request on the server, as the components around it share it.

>>> exchange = Exchange.of(scope := {"type": "http"})
>>> exchange.headers.append((b"x-ratelimit-limit-requests", b"10"))
>>> Exchange.of(scope) is exchange
True
>>> exchange.complete([(b"allow", b"GET")])
[(b'allow', b'GET'), (b'x-ratelimit-limit-requests', b'10')]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextvars import Token
from dataclasses import dataclass
from operator import itemgetter, methodcaller
from types import TracebackType
from typing import Any, Final, Self

from flexmw.contract.exceptions import ErrorMapping
from flexmw.errors import APIError, raised

__all__ = ["KEY", "ErrorOutcome", "Exchange", "Header"]

KEY: Final = "flexmw"
"""The scope key of the exchange. It is the only thing that flexmw adds to a scope."""

Header = tuple[bytes, bytes]

_NAME: Final[Callable[[Header], bytes]] = itemgetter(0)
_LOWER: Final[Callable[[bytes], bytes]] = methodcaller("lower")


@dataclass(frozen=True, slots=True)
class ErrorOutcome:
    """How a request was answered, as far as an error is concerned: the facts that a span and a metric want.

    ``source`` is one of ``passthrough``, ``http_exception``, ``unhandled_exception``, ``validation``,
    ``foreign_body``, ``rate_limiting``, ``idempotency``. ``exception`` is what the host raised, if it did.
    """

    status: int
    type: str | None = None
    code: str | None = None
    source: str = "passthrough"
    exception: BaseException | None = None


Listener = Callable[[str, Mapping[str, Any]], None]


class Exchange:
    """What the components of one request share. The outermost one makes it; it lives in ``scope["flexmw"]``.

    ``headers`` are to be on the response whoever makes it, as raw pairs with lower-case names; ``facts`` are values
    for the span, by attribute name; ``remembered`` is the last ``APIError`` that the host made, for hosts that swallow
    exceptions; ``answer`` is set by whoever decided on the answer. ``map_exception`` is set by a component that answers
    exceptions and returns its answer to one; ``observers`` are told each event.

    Entering it (``with exchange:``) is what makes it remember.
    """

    __slots__ = ("_tokens", "answer", "facts", "headers", "map_exception", "observers", "remembered")

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.facts: dict[str, str | int | float | bool] = {}
        self.remembered: APIError | None = None
        self.answer: ErrorOutcome | None = None
        self.map_exception: Callable[[BaseException], ErrorMapping] | None = None
        self.observers: tuple[Listener, ...] = ()
        self._tokens: list[Token[Any]] = []

    @classmethod
    def of(cls, scope: MutableMapping[str, Any]) -> Self:
        """The exchange of this request, made if it is not there yet."""
        exchange = scope.get(KEY)
        if exchange is None:
            exchange = scope[KEY] = cls()
        return exchange

    def subscribe(self, listener: Listener) -> None:
        """Be told every event of this request. Only telemetry should."""
        self.observers += (listener,)

    def unsubscribe(self, listener: Listener) -> None:
        """Be told no more: a listener that the request holds for good keeps both for the garbage collector."""
        left = list(self.observers)
        left.remove(listener)
        self.observers = tuple(left)

    def emit(self, event: str, details: Mapping[str, Any]) -> None:
        """Tell of an event, such as ``flexmw.rate_limiting.decided``. Costs nothing unheard."""
        for listener in self.observers:
            listener(event, details)

    def set_error(self, answer: ErrorOutcome) -> None:
        """Say how the request is answered, while the host's span is still open if it can be helped."""
        self.answer = answer
        self.emit("flexmw.answer", {"answer": answer})

    def complete(self, headers: Iterable[Header]) -> list[Header]:
        """``headers`` and those of the exchange whose names they lack."""
        own = list(headers)
        if self.headers:
            # Without a frame of its own, as a comprehension has: this is done for every response.
            names = set(map(_LOWER, map(_NAME, own)))
            for pair in self.headers:
                if pair[0] not in names:
                    own.append(pair)  # noqa: PERF401
        return own

    def _remember(self, error: APIError) -> None:
        self.remembered = error

    def __enter__(self) -> Self:
        self._tokens.append(raised.set(self._remember))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for token in reversed(self._tokens):
            try:
                raised.reset(token)
            except ValueError:
                # Of another task: a host may run parts of one request beside each other, which leave in any order.
                continue
            self._tokens.remove(token)
            return
