"""Assertions about what a call, a response or an app has done, for the tests of an app or a client.

>>> import httpx, flexmw
>>> lost = httpx.MockTransport(lambda request: httpx.Response(500))
>>> client = flexmw.wrap_client(httpx.Client(transport=lost))
>>> response = client.post("https://api.example/v1/jobs", json={})
>>> assert_outcome(response, "ambiguous", attempts=1, reason="unsafe_method")
>>> assert_outcome(response, "answered")
Traceback (most recent call last):
    ...
AssertionError: outcome is 'ambiguous', expected 'answered', in Outcome(outcome='ambiguous', attempts=1, ...)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any, Final

from flexmw.contract import ErrorBody
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.retry import Outcome, outcome_of

__all__ = ["Executions", "assert_error", "assert_outcome"]

_FIELDS: Final = tuple(field.name for field in fields(Outcome))
_REQUESTS: Final = frozenset({"http", "websocket"})


def assert_outcome(error_or_response: object, outcome: str | None = None, **expected: Any) -> None:
    """Assert how a call over Retry went.

    :param error_or_response: a response or an exception of httpx, httpx2 or an SDK, or the ``ExceptionInfo`` of
        ``pytest.raises``.
    :param outcome: ``answered``, ``unsent``, ``refused`` or ``ambiguous``.
    :param expected: further fields of :class:`flexmw.Outcome`, such as ``attempts=2`` or ``reason="deadline"``.
    :raises AssertionError: the call went otherwise, or it did not go over Retry.
    :raises TypeError: an Outcome has no such field.
    """
    __tracebackhide__ = True
    if unknown := [name for name in expected if name not in _FIELDS]:
        raise TypeError(f"an Outcome has no field {unknown[0]!r}: it has {', '.join(_FIELDS)}")
    subject = getattr(error_or_response, "value", error_or_response)
    actual = outcome_of(subject if isinstance(subject, BaseException) else error_or_response)
    if actual is None:
        raise AssertionError(f"no outcome on {error_or_response!r}: is its client wrapped, with Retry among its parts?")
    if outcome is not None:
        expected = {"outcome": outcome, **expected}
    differences = [
        f"{name} is {getattr(actual, name)!r}, expected {value!r}"
        for name, value in expected.items()
        if getattr(actual, name) != value
    ]
    if differences:
        raise AssertionError(f"{'; '.join(differences)}, in {actual!r}")


def assert_error(response: Any, status: int, **expected: Any) -> ErrorBody:
    """Assert that a response is an error in the contract's format.

    :param response: any object with ``status_code`` and ``content``, as those of httpx, httpx2 and TestClient.
    :param status: the status.
    :param expected: fields of the error object: ``message``, ``type``, ``param``, ``code``.
    :return: the error object.
    :raises AssertionError: the response is another one.
    """
    __tracebackhide__ = True
    content: bytes = response.content
    error = ErrorBody.decode(content)
    if response.status_code != status or error is None:
        shown = content[:500].decode("utf-8", "replace")
        raise AssertionError(f"status is {response.status_code}, expected an error with {status}, in {shown}")
    differences = [
        f"{name} is {getattr(error, name, None)!r}, expected {value!r}"
        for name, value in expected.items()
        if getattr(error, name, None) != value
    ]
    if differences:
        raise AssertionError(f"{'; '.join(differences)}, in {error!r}")
    return error


class Executions(Counter[str]):
    """An ASGI app that counts the requests that reach the app inside it, by ``"POST /orders"``.

    Put it between the app and its components: what Idempotency replays and what RateLimit refuses is not counted.

    >>> async def app(scope, receive, send): ...
    >>> executions = Executions(app)
    >>> executions["POST /orders"]
    0

    :param app: the app without components.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in _REQUESTS:
            self[f"{scope.get('method', 'WEBSOCKET')} {scope['path']}"] += 1
        await self._app(scope, receive, send)
