"""The Envelope's options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from flexmw.envelope.asgi import EnvelopeApp
from flexmw.envelope.core import Rules
from flexmw.envelope.dialect import Dialect, OpenAI, check_dialects, choose, load
from flexmw.envelope.flow import translate
from flexmw.envelope.writer import Plan
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request, Response, Send
from flexmw.kit.options import Rule, check, flag, function, option, optional, seconds, several, text, whole

__all__ = ["Envelope"]

_STATUS_400_422: Final = Rule("400, 422 or None", lambda value: value in (None, 400, 422))
_STATUS_500_504: Final = Rule("500 or 504", lambda value: value in (500, 504))
_PATH: Final = Rule("a path that begins with '/'", lambda value: isinstance(value, str) and value.startswith("/"))
_DIALECTS: Final = Rule("a list of dialects, or of the names of their entry points", check_dialects)


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Every error of an ASGI app leaves in the contract's shape, whoever in it has made the error.

    :param dialects: further dialects, or names of their entry points (group ``flexmw.dialects``), asked in order
        which of them serves a request; OpenAI's serves the rest.
    :param passthrough: beginnings of paths whose errors are left alone.
    :param unless: a function of scope and status; where it is true the error is left alone.
    :param request_id: the header that carries the request's identity on every error: the host's own, else a fit
        inbound one, else the trace id, else a random one. ``None`` adds none.
    :param should_retry: whether to send ``x-should-retry: false``, which OpenAI's SDKs obey, where sending a request
        again could do its work twice or is in vain.
    :param null_param: write ``"param": null`` where it is unknown, as OpenAI's schema requires.
    :param timeout_status: what an unhandled timeout becomes: 500 as the provider's page has it, or 504 (RFC 9110).
    :param validation_status: what a failed validation (422) becomes: ``None`` keeps it, 400 is OpenAI's own.
    :param max_body: bytes of an error body that are read; a larger one is replaced.
    :param max_wait: seconds to wait for the rest of an error body, or for the host to end after a bare 500.
    :param lines: also end failed streams of newline-delimited JSON with a line ``{"error": ...}``.
    :param debug: let the host's own pages with tracebacks pass. Never in production.
    :raises ConfigError: naming the option, its value and what would be right.
    """

    name: ClassVar[str] = "envelope"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging",), before=("ratelimit", "idempotency"))

    dialects: tuple[Dialect | str, ...] = option((), _DIALECTS)
    passthrough: tuple[str, ...] = option((), several(_PATH))
    unless: Callable[[Scope, int], bool] | None = option(None, optional(function))
    request_id: str | None = option("x-request-id", optional(text))
    should_retry: bool = option(True, flag)
    null_param: bool = option(False, flag)
    timeout_status: int = option(500, _STATUS_500_504)
    validation_status: int | None = option(None, _STATUS_400_422)
    max_body: int = option(65536, whole(least=1, most=16 * 1024 * 1024))
    max_wait: float = option(5.0, seconds(above=0.0))
    lines: bool = option(False, flag)
    debug: bool = option(False, flag)

    def __post_init__(self) -> None:
        check(self)

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app; also a middleware factory for a host's own ``add_middleware``.

        :raises PluginError: when a dialect's name leads to none.
        """
        dialects = tuple(load(dialect) for dialect in self.dialects)
        default = OpenAI(null_param=self.null_param)
        plan = Plan(
            rules=self._rules((*dialects, default)),
            dialects=dialects,
            default=default,
            passthrough=tuple(self.passthrough),
            unless=self.unless,
            request_id=self.request_id.lower() if self.request_id else None,
            should_retry=self.should_retry,
            max_wait=self.max_wait,
            lines=self.lines,
        )
        return EnvelopeApp(app, plan)

    def flow(self, request: Request) -> Flow:
        """The client face: error answers of an upstream whose body is in no shape of the contract get one that is.

        Of the options, ``passthrough``, ``dialects``, ``null_param`` and ``max_body`` take part. Good answers, errors
        in shape and open streams are left byte for byte, and the status is always the upstream's.
        """
        path = request.url.path
        if self.passthrough and path.startswith(tuple(self.passthrough)):
            response: Response = yield Send(request)
            return response
        default = OpenAI(null_param=self.null_param)
        dialects = tuple(load(dialect) for dialect in self.dialects)
        dialect = choose(dialects, path, request.headers.get("accept", ""), default)
        return (yield from translate(request, self._rules((*dialects, default)), dialect))

    def _rules(self, dialects: tuple[Dialect, ...]) -> Rules:
        return Rules(
            keeps=lambda value: any(dialect.keeps(value) for dialect in dialects),
            max_body=self.max_body,
            timeout_status=self.timeout_status,
            validation_status=self.validation_status,
            debug=self.debug,
        )
