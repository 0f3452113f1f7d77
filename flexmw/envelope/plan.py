"""The options of an Envelope, resolved once for a wrapped app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flexmw.contract.exceptions import ErrorMapping, map_exception
from flexmw.envelope.core import Rules
from flexmw.envelope.dialect import Dialect, OpenAI
from flexmw.kit.asgi import Scope

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The resolved options; see :class:`flexmw.envelope.Envelope` for their meaning.

    :param default: the dialect of requests that none of ``dialects`` serves.
    :param request_id: the header's name in lower case; ``None`` adds no header.
    :param max_wait: seconds.
    """

    rules: Rules
    dialects: tuple[Dialect, ...]
    default: OpenAI
    passthrough: tuple[str, ...]
    unless: Callable[[Scope, int], bool] | None
    request_id: str | None
    should_retry: bool
    max_wait: float
    lines: bool

    map_exception: Callable[[BaseException], ErrorMapping] = field(init=False)
    """Maps an exception that the app has raised to its error response, by the options. A field instead of a method: it
    is put on the exchange of every request."""

    def __post_init__(self) -> None:
        rules = self.rules
        mapping = partial(
            map_exception,
            timeout_status=rules.timeout_status,
            validation_status=rules.validation_status,
            messages=rules.messages,
        )
        object.__setattr__(self, "map_exception", mapping)

    def leaves_alone(self, scope: Scope, status: int) -> bool:
        """True if an error response is to pass unchanged, by the options ``passthrough`` and ``unless``."""
        path: str = scope.get("path", "")
        if self.passthrough and path.startswith(self.passthrough):
            return True
        return self.unless is not None and self.unless(scope, status)
