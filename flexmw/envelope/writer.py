"""Error response writer: sends the headers and the body of a whole error response, and records the error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from flexmw.contract import error_headers
from flexmw.contract.stream_framing import LINES, Framing
from flexmw.envelope.core import ErrorResponse, Header, fresh_headers
from flexmw.envelope.dialect import Dialect, choose
from flexmw.envelope.plan import Plan
from flexmw.kit.asgi import Message, Scope, Send, raw_headers
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.kit.ids import request_id

__all__ = ["Writer"]


class Writer:
    """Writes the error responses of one request. Made only for a request that fails."""

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
        return choose(plan.dialects, self._scope.get("path", ""), ", ".join(self._request(b"accept")), plan.default)

    async def write(self, send: Send, response: ErrorResponse, start: Message, body: bytes | None) -> None:
        """Send a whole error response.

        :param start: the app's ``http.response.start``; empty if the app has sent none.
        :param body: the app's body, to send it unchanged; ``None`` to write a body in the dialect.
        """
        status, head = response.status, self._scope.get("method") == "HEAD"
        app_headers: Sequence[Header] = start.get("headers", ())
        identity = self._identity(app_headers)
        start = {**start, "type": "http.response.start", "status": status}
        if body is None:
            dialect = self.dialect
            body = dialect.render(response.error, status=status, request_id=identity)
            headers = fresh_headers(app_headers, status=status, media_type=dialect.media_type, length=len(body))
            error_headers.add_missing(headers, raw_headers(response.headers))
            start.pop("trailers", None)
        else:
            length = str(len(body)).encode()
            headers = [
                (name, length if name.lower() == b"content-length" and not head else value)
                for name, value in app_headers
            ]
        # Merged here even if a component further out merges them again: add_error_headers() needs all headers.
        headers = self._exchange.complete(headers)
        self._add_error_headers(headers, response, identity)
        self.record(response)
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body, "more_body": False})

    def last_unit(self, framing: Framing, error: BaseException, last: bytes) -> bytes:
        """Make the last unit of a stream whose app has raised ``error``.

        :param last: the last units that were sent.
        """
        mapping, dialect = self._plan.map_exception(error), self.dialect
        if framing is LINES:
            return dialect.render(mapping.error, status=mapping.status, request_id=None) + b"\n"
        return dialect.event(mapping.error, status=mapping.status, path=self._scope.get("path", ""), last=last)

    def record(self, response: ErrorResponse, *, status: int | None = None) -> None:
        """Record the error on the exchange, unless another component has recorded the same error.

        :param status: the status that was sent, if it differs from the error's: a stream fails after its status.
        """
        recorded, error = self._exchange.error_outcome, response.error
        if recorded is None or recorded.status != response.status or recorded.exception is not response.exception:
            self._exchange.set_error(
                ErrorOutcome(status or response.status, error.type, error.code, response.source, response.exception)
            )

    def _add_error_headers(self, headers: list[Header], response: ErrorResponse, identity: str | None) -> None:
        plan = self._plan
        error_headers.add_error_headers(
            headers,
            response.status,
            response.error,
            method=self._scope.get("method", "GET"),
            keyed=bool(self._request(b"idempotency-key")),
            request_id=raw_headers([(plan.request_id or "", identity)])[0] if identity is not None else None,
            retry_advice=plan.should_retry,
            now=time.time(),
        )

    def _identity(self, headers: Iterable[Header]) -> str | None:
        """Return the id of the request: from the app's headers, else a well-formed id from the request's, else a new
        id."""
        if self._plan.request_id is None:
            return None
        name = self._plan.request_id.encode("latin-1")
        own = next((value.decode("latin-1") for key, value in headers if key.lower() == name), None)
        return own or request_id(next(iter(self._request(name)), None))

    def _request(self, name: bytes) -> list[str]:
        """The lines of a request header (RFC 9110 section 5.3)."""
        headers: Iterable[Header] = self._scope.get("headers", ())
        return [value.decode("latin-1") for key, value in headers if key == name]
