"""Send a whole error: body, headers, and word of it to the request's exchange. Made only for a request that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flexmw.contract import ErrorBody
from flexmw.contract.exceptions import ErrorMapping, map_exception
from flexmw.envelope.core import ErrorResponse, Header, Rules, fresh_headers, should_retry
from flexmw.envelope.dialect import Dialect, OpenAI, choose
from flexmw.envelope.stream import LINES, Framing
from flexmw.kit.asgi import Message, Scope, Send, raw_headers
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.kit.ids import request_id

__all__ = ["Plan", "Writer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of an Envelope, resolved once for an app."""

    rules: Rules
    dialects: tuple[Dialect, ...]
    default: OpenAI
    passthrough: tuple[str, ...]
    unless: Callable[[Scope, int], bool] | None
    request_id: str | None
    should_retry: bool
    max_wait: float
    lines: bool

    def map_exception(self, error: BaseException) -> ErrorMapping:
        """What to answer to an exception, by the options."""
        rules = self.rules
        return map_exception(error, timeout_status=rules.timeout_status, validation_status=rules.validation_status)


class Writer:
    """Writes the errors of one request."""

    __slots__ = ("_exchange", "_plan", "_scope")

    def __init__(self, plan: Plan, scope: Scope) -> None:
        self._exchange = Exchange.of(scope)
        self._plan = plan
        self._scope = scope

    @property
    def dialect(self) -> Dialect:
        """The dialect that serves the request."""
        plan = self._plan
        if not plan.dialects:
            return plan.default
        return choose(plan.dialects, self._scope.get("path", ""), self._list(b"accept"), plan.default)

    def last_words(self, mapping: ErrorMapping, framing: Framing) -> Callable[[bytes], bytes]:
        """What a stream ends with whose host has raised, by the last unit of it that went out."""
        dialect, path = self.dialect, self._scope.get("path", "")

        def words(last: bytes) -> bytes:
            if framing is LINES:
                return dialect.render(mapping.error, status=mapping.status, request_id=None) + b"\n"
            return dialect.event(mapping.error, status=mapping.status, path=path, last=last)

        return words

    async def write(self, send: Send, reply: ErrorResponse, start: Message, kept: bytes | None) -> None:
        """Send a whole error. ``start`` is the host's; ``kept`` is its body, where that goes out as it came."""
        status, head = reply.status, self._scope.get("method") == "HEAD"
        headers: Sequence[Header] = start.get("headers", ())
        identity = self._identity(headers)
        start = {**start, "type": "http.response.start", "status": status}
        if kept is None:
            dialect = self.dialect
            body = dialect.render(reply.error, status=status, request_id=identity)
            sent = fresh_headers(headers, status=status, media_type=dialect.media_type, length=len(body))
            _fill(sent, raw_headers(reply.headers))
            start.pop("trailers", None)
        else:
            body = kept
            sent = [
                (name, str(len(body)).encode() if name.lower() == b"content-length" and not head else value)
                for name, value in headers
            ]
        sent = self._exchange.complete(sent)
        self._stamp(sent, reply.error, status, identity)
        self.settle(reply)
        await send({**start, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if head else body, "more_body": False})

    def settle(self, reply: ErrorResponse, *, status: int | None = None) -> None:
        """Tell the request's exchange how it is answered, unless another room has said so already."""
        answer, error = self._exchange.answer, reply.error
        if answer is None or answer.status != reply.status or answer.exception is not reply.exception:
            self._exchange.set_error(
                ErrorOutcome(status or reply.status, error.type, error.code, reply.source, reply.exception)
            )

    def _header(self, name: bytes) -> str | None:
        headers: Iterable[Header] = self._scope.get("headers", ())
        return next((value.decode("latin-1") for key, value in headers if key == name), None)

    def _list(self, name: bytes) -> str:
        """A field that may come in several lines, as one (RFC 9110 section 5.3)."""
        headers: Iterable[Header] = self._scope.get("headers", ())
        return ", ".join(value.decode("latin-1") for key, value in headers if key == name)

    def _identity(self, headers: Iterable[Header]) -> str | None:
        name = self._plan.request_id
        if name is None:
            return None
        raw = name.encode("latin-1")
        own = next((value.decode("latin-1") for key, value in headers if key.lower() == raw), None)
        return own or request_id(self._header(raw))

    def _stamp(self, headers: list[Header], error: ErrorBody, status: int, identity: str | None) -> None:
        if identity is not None and self._plan.request_id is not None:
            _fill(headers, raw_headers([(self._plan.request_id, identity)]))
        if self._plan.should_retry:
            waits = any(name.lower() == b"retry-after" for name, _ in headers)
            keyed = self._header(b"idempotency-key") is not None
            method: str = self._scope.get("method", "GET")
            again = should_retry(error, status, method=method, keyed=keyed, waits=waits)
            if again is not None:
                _fill(headers, [(b"x-should-retry", b"true" if again else b"false")])


def _fill(headers: list[Header], more: Iterable[Header]) -> None:
    """Add those headers whose names are missing."""
    names = {name.lower() for name, _ in headers}
    headers.extend(pair for pair in more if pair[0] not in names)
