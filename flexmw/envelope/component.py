"""The Envelope's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from flexmw.contract.messages import expected, key_of
from flexmw.envelope.asgi import EnvelopeApp
from flexmw.envelope.core import Rules
from flexmw.envelope.dialect import Dialect, OpenAI, check_dialects, choose, load
from flexmw.envelope.documentation import document
from flexmw.envelope.flow import translate
from flexmw.envelope.plan import Plan
from flexmw.errors import ConfigError
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.component import API, Order
from flexmw.kit.documentation import Documentation, Operation
from flexmw.kit.effects import Flow, Request, Response, Send
from flexmw.kit.factory import ServerMiddleware, middleware_factory
from flexmw.kit.options import Rule, check, flag, function, option, optional, seconds, several, text, whole
from flexmw.kit.path_patterns import PathPattern, path_patterns
from flexmw.kit.paths import all_readings, routing_of

__all__ = ["Envelope"]

_STATUS_400_422: Final = Rule("400, 422 or None", lambda value: value in (None, 400, 422))
_STATUS_500_504: Final = Rule("500 or 504", lambda value: value in (500, 504))
_MESSAGES: Final = optional(Rule("a table of messages by error code", lambda value: isinstance(value, Mapping)))
_DIALECTS: Final = Rule("a list of dialects, or of the names of their entry points", check_dialects)


@dataclass(frozen=True, kw_only=True)
class Envelope(ServerMiddleware):
    """Send every error of an ASGI app in the format of the error contract, whichever part of the app made the error.

    :param dialects: Further error formats: objects, or names of entry points in the group ``flexmw.dialects``. The
        first dialect that serves a request, by path or by ``Accept``, writes its errors. OpenAI's format serves all
        other requests. Value: a list of dialects, or of the names of their entry points. Default: ``()``.
    :param messages: Messages of your own, by error code or kind, in place of flexmw's default messages: to name a
        billing page or a status page. A kind is a class, such as ``flexmw.SubsystemOffline``, or its name in [the list
        of kinds](kinds.md); its message is used before that of its code. A message may use the placeholders of its
        code: ``{model}`` of ``model_not_found``, ``{seconds}`` and ``{s}`` (``s`` unless it is one second) of
        ``rate_limit_exceeded``, ``{name}`` of ``service_unavailable``. The option does not change a message that the
        app has written, nor an error that has no value for a placeholder, such as the app's own bare 429. It also
        applies to the refusals of the components further inward. Value: a table of messages by error code, or None.
        Default: ``None``.
    :param passthrough: Path prefixes, in RateLimit's forms: ``/scim``, ``/files/{id}/raw``, ``GET /feed``. Errors of
        these paths are left as they are. Value: a list, each a text that is not empty. Default: ``()``.
    :param unless: A function of the scope and the status. An error for which it returns true is left as it is. Value: a
        function, or None. Default: ``None``.
    :param request_id: Header that carries the id of the request on every error: the app's own id, else a well-formed
        one from the request, else the trace id, else a random id. ``None`` adds no header. Value: a text that is not
        empty, or None. Default: ``"x-request-id"``.
    :param should_retry: Send ``x-should-retry: false``, which OpenAI's SDKs obey, with an error whose request must not
        be sent again because that could do its work twice, or would be in vain. Default: ``True``.
    :param null_param: Write ``"param": null`` where the parameter is unknown, as OpenAI's schema requires, instead of
        leaving the field out. Default: ``False``.
    :param timeout_status: Status of a timeout that the app has not handled: 500, as in the error contract, or 504 (RFC
        9110). Value: 500 or 504 (HTTP status). Default: ``500``.
    :param validation_status: Status of a failed validation. ``None`` keeps the status of the framework, such as 422;
        OpenAI sends 400. Value: 400, 422 or None (HTTP status). Default: ``None``.
    :param max_body: Longest error body that is read. A longer one is replaced. Value: a whole number, 1 to 16777216
        (bytes). Default: ``65536``.
    :param max_wait: Longest wait for the rest of an error body, and for the app to end after a bare 500. Value: a
        number of seconds above 0. Default: ``5.0``.
    :param hold: Longest time that the head of an event stream waits for the first byte of the app. A failure in this
        time gets its own status. With 0 the head is sent at once. Value: a number of seconds, at least 0. Default:
        ``0.25``.
    :param lines: End a failed stream of newline-delimited JSON with a line ``{"error": ...}``. Without this option the
        stream is cut off. Default: ``False``.
    :param debug: Let the framework's own pages with tracebacks pass. Such a page shows source code: never use this
        option in production. Default: ``False``.
    :raises ConfigError: an option that cannot work; the error names the option, its value and what would be right.
    """

    name: ClassVar[str] = "envelope"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging",), before=("ratelimit", "idempotency"))

    dialects: tuple[Dialect | str, ...] = option(
        (),
        _DIALECTS,
        doc="Further error formats: objects, or names of entry points in the group `flexmw.dialects`. The first "
        "dialect that serves a request, by path or by `Accept`, writes its errors. OpenAI's format serves all other "
        "requests.",
    )
    messages: Mapping[Any, str] | None = option(
        None,
        _MESSAGES,
        doc="Messages of your own, by error code or kind, in place of flexmw's default messages: to name a billing "
        "page or a status page. A kind is a class, such as `flexmw.SubsystemOffline`, or its name in [the list of "
        "kinds](kinds.md); its message is used before that of its code. A message may use the placeholders of its "
        "code: `{model}` of `model_not_found`, `{seconds}` and `{s}` (`s` unless it is one second) of "
        "`rate_limit_exceeded`, `{name}` of `service_unavailable`. The option does not change a message that the app "
        "has written, nor an error that has no value for a placeholder, such as the app's own bare 429. It also "
        "applies to the refusals of the components further inward.",
    )
    passthrough: tuple[str, ...] = option(
        (),
        several(text),
        doc="Path prefixes, in RateLimit's forms: `/scim`, `/files/{id}/raw`, `GET /feed`. Errors of these paths are "
        "left as they are.",
    )
    unless: Callable[[Scope, int], bool] | None = option(
        None,
        optional(function),
        doc="A function of the scope and the status. An error for which it returns true is left as it is.",
    )
    request_id: str | None = option(
        "x-request-id",
        optional(text),
        doc="Header that carries the id of the request on every error: the app's own id, else a well-formed one from "
        "the request, else the trace id, else a random id. `None` adds no header.",
    )
    should_retry: bool = option(
        True,
        flag,
        doc="Send `x-should-retry: false`, which OpenAI's SDKs obey, with an error whose request must not be sent "
        "again because that could do its work twice, or would be in vain.",
    )
    null_param: bool = option(
        False,
        flag,
        doc='Write `"param": null` where the parameter is unknown, as OpenAI\'s schema requires, instead of leaving '
        "the field out.",
    )
    timeout_status: int = option(
        500,
        _STATUS_500_504,
        doc="Status of a timeout that the app has not handled: 500, as in the error contract, or 504 (RFC 9110).",
        unit="HTTP status",
    )
    validation_status: int | None = option(
        None,
        _STATUS_400_422,
        doc="Status of a failed validation. `None` keeps the status of the framework, such as 422; OpenAI sends 400.",
        unit="HTTP status",
    )
    max_body: int = option(
        65536,
        whole(least=1, most=16 * 1024 * 1024),
        doc="Longest error body that is read. A longer one is replaced.",
        unit="bytes",
    )
    max_wait: float = option(
        5.0,
        seconds(above=0.0),
        doc="Longest wait for the rest of an error body, and for the app to end after a bare 500.",
        unit="seconds",
    )
    hold: float = option(
        0.25,
        seconds(),
        doc="Longest time that the head of an event stream waits for the first byte of the app. A failure in this time "
        "gets its own status. With 0 the head is sent at once.",
        unit="seconds",
    )
    lines: bool = option(
        False,
        flag,
        doc='End a failed stream of newline-delimited JSON with a line `{"error": ...}`. Without this option the '
        "stream is cut off.",
    )
    debug: bool = option(
        False,
        flag,
        doc="Let the framework's own pages with tracebacks pass. Such a page shows source code: never use this option "
        "in production.",
    )

    def __post_init__(self) -> None:
        check(self)
        _passthrough(tuple(self.passthrough))
        for code, message in (self.messages or {}).items():
            if (fault := expected(key_of(code), message)) is not None:
                raise ConfigError(f"Envelope(messages={{{code!r}: ...}})", message, fault)

    @middleware_factory
    def asgi(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app; also a middleware factory for a framework's own ``add_middleware``.

        :raises PluginError: the name of a dialect does not lead to one.
        """
        dialects = tuple(load(dialect) for dialect in self.dialects)
        default = OpenAI(null_param=self.null_param)
        plan = Plan(
            rules=self._rules((*dialects, default)),
            dialects=dialects,
            default=default,
            passthrough=_passthrough(tuple(self.passthrough)),
            routing=routing_of(app),
            unless=self.unless,
            request_id=self.request_id.lower() if self.request_id else None,
            should_retry=self.should_retry,
            max_wait=self.max_wait,
            hold=self.hold,
            lines=self.lines,
            app=app,
        )
        return EnvelopeApp(app, plan)

    def documents(self, operation: Operation) -> Documentation:
        """Describe the errors of an operation, for :func:`flexmw.openapi`."""
        default = OpenAI(null_param=self.null_param)
        return document(
            operation,
            [load(dialect) for dialect in self.dialects],
            default,
            _passthrough(tuple(self.passthrough)),
            request_id=self.request_id,
            should_retry=self.should_retry,
            validation_status=self.validation_status,
            null_param=self.null_param,
        )

    def flow(self, request: Request) -> Flow:
        """Client side: rewrite the body of an upstream's error response that does not keep the contract.

        The options ``passthrough``, ``dialects``, ``messages``, ``null_param`` and ``max_body`` apply. A good response,
        an error in a dialect's format and an event stream do not change. The status never changes.
        """
        path = request.url.path
        if self.passthrough and all_readings(
            _passthrough(tuple(self.passthrough)), {"method": request.method}, path=path
        ):
            response: Response = yield Send(request)
            return response
        default = OpenAI(null_param=self.null_param)
        dialects = tuple(load(dialect) for dialect in self.dialects)
        dialect = choose(dialects, path, request.headers.get("accept", ""), default)
        return (yield from translate(request, self._rules((*dialects, default)), dialect, self.max_wait))

    def _rules(self, dialects: tuple[Dialect, ...]) -> Rules:
        return Rules(
            keeps=lambda value: any(dialect.keeps(value) for dialect in dialects),
            max_body=self.max_body,
            timeout_status=self.timeout_status,
            validation_status=self.validation_status,
            debug=self.debug,
            messages={str(key_of(key)): message for key, message in (self.messages or {}).items()},
        )


@lru_cache(maxsize=64)
def _passthrough(paths: tuple[str, ...]) -> tuple[PathPattern, ...]:
    """Return the patterns of the option ``passthrough``. Cached, because each call of a client needs them."""
    return path_patterns(paths, "Envelope(passthrough=...)", is_prefix=True)
