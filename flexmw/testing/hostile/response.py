"""Base classes of faults, and the fault that is a complete response.

>>> Response(503, retry="seconds", wait=2.0)
Response(status=503, headers=(), body=None, retry='seconds', wait=2.0, executes=None)
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import wraps
from typing import Any, ClassVar, TypeVar

from flexmw.contract import ErrorBody, for_status
from flexmw.contract.refusals import REFUSED, REFUSED_WITH_RETRY_AFTER
from flexmw.errors import ConfigError
from flexmw.testing.hostile.exchange import Exchange, Protocol
from flexmw.testing.hostile.waits import WAITS, Headers, render
from flexmw.testing.hostile.wire import Wire

__all__ = ["ConnectionFault", "Fault", "Response", "renamed_option"]

T = TypeVar("T")


def renamed_option(old: str, new: str) -> Callable[[type[T]], type[T]]:
    """Let a dataclass accept and show an option under its old name too, with a ``DeprecationWarning``."""

    def decorate(cls: type[T]) -> type[T]:
        message = f"{cls.__name__}({old}=...) is now {cls.__name__}({new}=...)"
        init: Callable[..., None] = cls.__init__

        @wraps(init)
        def init_with_old_name(self: T, *values: Any, **options: Any) -> None:
            if old in options:
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                options[new] = options.pop(old)
            init(self, *values, **options)

        def value(self: T) -> Any:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(self, new)

        for name, attribute in (("__init__", init_with_old_name), (old, property(value))):
            setattr(cls, name, attribute)
        return cls

    return decorate


class Fault(ABC):
    """What the server does to one request."""

    protocol: ClassVar[Protocol | None] = None
    """The only protocol in which the fault exists; ``None``: both."""

    @property
    def share(self) -> float:
        """The share of the request's body that is read before :meth:`run`: 0.0 is none of it, 1.0 all of it."""
        return 1.0

    @abstractmethod
    def run(self, exchange: Exchange) -> None:
        """Misbehave. Call ``exchange.execute()`` at the point where the work counts as done."""


class ConnectionFault(ABC):
    """What the server does to a connection before it reads anything, the TLS handshake included."""

    @abstractmethod
    def run(self, wire: Wire) -> None:
        """Misbehave. The server closes the connection afterwards."""


@dataclass(frozen=True)
class Response(Fault):
    """A complete response.

    :param status: the HTTP status, 200 to 599.
    :param headers: further headers.
    :param body: bytes, a text, or a value to send as JSON. ``None``: below 400 the good response of the path, from 400
        on an error in OpenAI's format.
    :param retry: headers that ask for a wait, by their name in :data:`~flexmw.testing.hostile.waits.WAITS`.
    :param wait: the wait that these headers name, in seconds.
    :param executes: whether the work is done. ``None``: yes, except for a refusal, which is 400 to 405, 407, 413, 415,
        422, 425, 429, and 503 and 529 with a ``Retry-After``.
    """

    status: int = 200
    _: KW_ONLY
    headers: Headers = ()
    body: bytes | str | Mapping[str, Any] | Sequence[Any] | None = None
    retry: str = "none"
    wait: float = 1.0
    executes: bool | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ConfigError("Response(status=...)", self.status, "a final HTTP status, 200 to 599")
        if self.retry not in WAITS:
            raise ConfigError("Response(retry=...)", self.retry, f"one of {', '.join(WAITS)}")

    def run(self, exchange: Exchange) -> None:
        if exchange.request.method == "CONNECT" and self.status < 300:
            exchange.tunnel()
            return
        body = self.begin(exchange)
        exchange.send(body)
        exchange.end()

    def begin(self, exchange: Exchange, *, chunked: bool = False) -> bytes:
        """Do the work if there is any, send the head, and return the body that belongs to the head."""
        headers = (*self.headers, *render(self.retry, wait=self.wait, now=exchange.now))
        if self._executes(headers):
            exchange.execute()
        body, content_type = self._body(exchange)
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers = (("Content-Type", content_type), *headers)
        exchange.start(self.status, headers, None if chunked else len(body))
        return body

    def _executes(self, headers: Headers) -> bool:
        if self.executes is not None:
            return self.executes
        told_to_wait = any(name.lower() in ("retry-after", "retry-after-ms") for name, _ in headers)
        return self.status not in REFUSED and not (told_to_wait and self.status in REFUSED_WITH_RETRY_AFTER)

    def _body(self, exchange: Exchange) -> tuple[bytes, str]:
        match self.body:
            case None if self.status < 400:
                return exchange.good.body, exchange.good.content_type
            case None:
                row = for_status(self.status)
                return ErrorBody(message=row.message, type=row.type, code=row.code).encode(), "application/json"
            case bytes():
                return self.body, "application/octet-stream"
            case str():
                return self.body.encode(), "text/plain; charset=utf-8"
            case _:
                return json.dumps(self.body).encode(), "application/json"
