"""Error response collector: the head and body of an error response of the app, up to a limit."""

from __future__ import annotations

from flexmw.envelope.app_info import is_form, standing_text
from flexmw.envelope.app_routes import is_unrouted
from flexmw.envelope.core import AppResponse, error_status
from flexmw.envelope.field_names import field_names
from flexmw.kit.asgi import ASGIApp, Message, Scope
from flexmw.kit.exchange import Exchange

__all__ = ["Collector"]


class Collector:
    """Collects one error response.

    :param start: the app's ``http.response.start``.
    :param max_body: longest body that is read, in bytes.
    """

    __slots__ = ("_data", "_max_body", "_start")

    def __init__(self, start: Message, max_body: int) -> None:
        self._start = start
        self._max_body = max_body
        self._data: bytearray | None = bytearray()

    @property
    def is_full(self) -> bool:
        """True when the body is longer than ``max_body``: the rest of the body has no effect."""
        return self._data is None

    def add(self, data: bytes) -> None:
        """Add a part of the body."""
        if self._data is not None:
            self._data += data
            if len(self._data) > self._max_body:
                self._data = None

    def response(self, scope: Scope, exchange: Exchange, app: ASGIApp | None) -> AppResponse:
        """Return the response with the body so far, for :func:`flexmw.envelope.core.decide`.

        :param app: the wrapped app.
        """
        status = self._start.get("status")
        return AppResponse(
            status=error_status(status),
            headers=tuple(self._start["headers"]),
            body=None if self._data is None else bytes(self._data),
            unrouted=status == 404 and is_unrouted(scope, app),
            is_form=status == 400 and is_form(scope),
            standing_text=standing_text(status, app) if isinstance(status, int) else None,
            names=field_names(scope) if status in (400, 422) else None,
            settled=exchange.error_outcome is not None and exchange.error_outcome.status == status,
        )
