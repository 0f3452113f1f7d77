"""Exceptions that flexmw raises, and the errors that an app raises as its response.

::

    FlexmwError
     ├── ConfigError             an option, a rate, a URL or a file that cannot work
     │    └── CallError          (also a TypeError) a kind below, made with the wrong arguments
     ├── PluginError             an entry point that is missing, broken, outdated or claimed twice
     │    └── UnknownComponent   (also a ConfigError) a name that nothing provides
     └── APIError                an error response: any status, in the contract's format
          ├── InvalidRequest     400        ├── JobNotFound        404
          ├── ModelNotFound      400        ├── RateLimitExceeded  429
          ├── InvalidAPIKey      401        ├── UpstreamTimeout    500
          └── InsufficientCredit 402        └── SubsystemOffline   503

>>> error = ModelNotFound("foo")
>>> error.status, error.code, error.param
(400, 'model_not_found', 'model')
>>> JobNotFound(message="No such job.").body.as_dict()["error"]["message"]
'No such job.'
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Self, Unpack

from starlette.exceptions import HTTPException

from flexmw.call_usage import explain_calls, usage
from flexmw.contract import PAGE, ErrorBody, Row, for_status, redact, retry_headers
from flexmw.error_fields import Fields, Overrides, merged

__all__ = [
    "APIError",
    "CallError",
    "ConfigError",
    "FlexmwError",
    "InsufficientCredit",
    "InvalidAPIKey",
    "InvalidRequest",
    "JobNotFound",
    "ModelNotFound",
    "PluginError",
    "RateLimitExceeded",
    "SubsystemOffline",
    "UnknownComponent",
    "UpstreamTimeout",
    "raised",
    "received",
    "usage",
]

raised: ContextVar[Callable[[APIError], None] | None] = ContextVar("flexmw.raised", default=None)
"""Called with each :class:`APIError` that is made while the app of an Envelope runs.

Litestar, Quart, Django, Falcon, BlackSheep and Sanic catch each unhandled exception and send a response, so the
middleware around them never gets the exception. So an ``APIError`` reports itself when it is *made*, and the Envelope
remembers the last error of each request. The remembered error replaces the app's response in one case: the response is
an error that is not in the contract's format, and is either a bare 500 or has the status of the remembered error. In
all other cases, an ``APIError`` that is made and not raised has no effect. An error that describes another server's
response (:func:`received`) does not report itself.
"""


_NO_PLACEHOLDERS: Final[Mapping[str, str]] = {}


class FlexmwError(Exception):
    """The base class of every exception that flexmw raises."""


class ConfigError(FlexmwError, ValueError):
    """An option has a value that cannot work.

    :param option: the option, such as ``RateLimit(cost=...)``.
    :param value: the value; the error keeps its ``repr`` with secrets masked.
    :param expected: a description of the right values, as words that follow "expected".
    :param where: the file and line that the value comes from, if it comes from a file.
    """

    def __init__(self, option: str, value: object, expected: str, *, where: str | None = None) -> None:
        self.option = option
        self.value = redact(repr(value), limit=300)
        self.expected = expected
        self.where = where
        super().__init__(f"{f'{where}: ' if where else ''}{option} = {self.value}: expected {expected}")

    def at(self, where: str) -> Self:
        """Return a copy of the error that also names the file and line of the value."""
        twin = copy.copy(self)
        twin.where = where
        twin.args = (f"{where}: {self}",)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self.__dict__)


class CallError(ConfigError, TypeError):
    """A kind of error was made with arguments that it does not take, or without one that it needs.

    :param kind: the name of the class.
    :param given: the arguments.
    :param problem: the message of the ``TypeError`` for these arguments.
    :param usage: how the class is called.
    """

    def __init__(self, kind: str, given: tuple[object, ...], problem: str, usage: str) -> None:
        self.problem = problem
        super().__init__(f"the arguments of {kind}", given, f"a call like {usage} ({problem})")


class PluginError(FlexmwError):
    """An entry point cannot be used.

    :param name: the name of the component.
    :param problem: the fault.
    :param target: the target of the entry point, ``module:attribute``; ``None`` if no entry point has the name.
    :param distribution: the distribution and version that declare the entry point; ``None`` as for ``target``.
    :param fix: a step that corrects the fault.
    """

    def __init__(
        self, name: str, problem: str, *, target: str | None = None, distribution: str | None = None, fix: str
    ) -> None:
        self.name, self.target, self.distribution, self.fix = name, target, distribution, fix
        origin = f" ({target}, from {distribution})" if target else ""
        Exception.__init__(self, f"plugin {name!r}{origin}: {redact(problem)}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self.__dict__)


class UnknownComponent(PluginError, ConfigError):
    """No component has the given name: the name is misspelt, or the distribution is not installed.

    :ivar is_guessed: the message suggests a similar known name.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1)
        self.is_guessed = bool(close)
        guess = f"did you mean {close[0]!r}?" if close else ""
        self.option, self.value, self.where = "component", repr(name), None
        self.expected = "; ".join(filter(None, (f"one of {', '.join(names)}", guess)))
        known = f"Known: {', '.join(names)}. Install the distribution that provides it"
        PluginError.__init__(
            self,
            name,
            "no component has this name",
            fix=f"D{guess[1:]} {known}" if guess else known,
        )


class APIError(HTTPException, FlexmwError):
    """An error response by the contract. Raise it anywhere in an app: in an endpoint, a dependency, a thread.

    It is a response and not a crash: it is neither logged nor recorded as an exception, with any status. The exception
    that it was raised ``from`` is recorded. When an error is made, the outer Envelope remembers it: see :data:`raised`.
    The class is a Starlette ``HTTPException``, so the error also becomes a response where no Envelope is installed.

    :param message: a sentence that is safe to show to a user. Default: the message of the kind or of the status.
    :param status: the HTTP status, 400 to 599. Default: the status of the kind.
    :param type: the family of the error. Default: the family of the kind or of the status.
    :param code: the machine-readable name of the error. Default: the name of the kind or of the status.
    :param param: the request field that is at fault.
    :param doc_url: the address of documentation about the error.
    :param headers: headers to send with the response.
    :raises ConfigError: ``status`` is not an error status.
    """

    row: ClassVar[Row | None] = None

    request_id: str | None = None
    """The response's ``x-request-id``. Only :func:`flexmw.envelope.error_from` sets it."""

    retry_after: float | None = None
    """The wait that the response names, in seconds. Only :func:`flexmw.envelope.error_from` sets it."""

    _placeholders: Mapping[str, str] | None = _NO_PLACEHOLDERS
    """The values of the placeholders in the row's message; ``None`` if the caller has given a message."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            explain_calls(cls, CallError)

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        doc_url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._set(message, status=status, type=type, code=code, param=param, doc_url=doc_url, headers=headers)
        if (report := raised.get()) is not None:
            report(self)

    def _set(
        self,
        message: str | None,
        *,
        status: int | None,
        type: str | None,
        code: str | None,
        param: str | None,
        doc_url: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        text: object = message
        if isinstance(text, int):
            expected = "a text; the status is a keyword of its own, status=..."
            raise ConfigError(f"{self.__class__.__name__}(message)", text, expected)
        row = self.row or for_status(status if isinstance(status, int) else 0)
        given: Any = row.status if status is None else status
        if not (isinstance(given, int) and 400 <= given <= 599):
            raise ConfigError(f"{self.__class__.__name__}(status=...)", status, "an HTTP error status, 400 to 599")
        self.status = int(given)
        if message is None:
            self.message = row.message.format_map(self._placeholders) if self._placeholders else row.message
        else:
            self.message, self._placeholders = message, None
        self.type = row.type if type is None else type
        self.code = row.code if code is None else code
        self.param, self.doc_url = param, doc_url
        super().__init__(self.status, self.message, dict(headers) if headers else None)

    @property
    def body(self) -> ErrorBody:
        """The error object of the response."""
        return ErrorBody(
            message=self.message,
            type=self.type,
            code=self.code,
            param=self.param,
            doc_url=self.doc_url,
            placeholders=self._placeholders,
        )

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self.__dict__)


explain_calls(APIError, CallError)


class InvalidRequest(APIError):
    """400: a malformed body, a value that is not allowed, a required field that is missing."""

    row = PAGE["invalid_request"]

    def __init__(self, message: str | None = None, param: str | None = None, **fields: Unpack[Fields]) -> None:
        super().__init__(message, param=param, **fields)


class ModelNotFound(APIError):
    """400: the model does not exist or the caller may not use it."""

    row = PAGE["model_not_found"]

    def __init__(self, model: str, **fields: Unpack[Overrides]) -> None:
        self._placeholders = {"model": str(model)}
        super().__init__(**merged(fields, param="model"))


class InvalidAPIKey(APIError):
    """401: the key is missing, malformed or revoked. The response has a ``Bearer`` challenge (RFC 6750, RFC 9110)."""

    row = PAGE["invalid_api_key"]

    def __init__(self, **fields: Unpack[Overrides]) -> None:
        super().__init__(**merged(fields, headers={"WWW-Authenticate": "Bearer"}))


class InsufficientCredit(APIError):
    """402: the credit of the API key is used up. The same key works again after a payment."""

    row = PAGE["insufficient_credit"]

    def __init__(self, **fields: Unpack[Overrides]) -> None:
        super().__init__(**fields)


class JobNotFound(APIError):
    """404: the job does not exist, or has expired."""

    row = PAGE["job_not_found"]

    def __init__(self, **fields: Unpack[Overrides]) -> None:
        super().__init__(**fields)


class RateLimitExceeded(APIError):
    """429: the caller has sent too many requests.

    :param retry_after: seconds until the next request may be sent. The response has them in ``Retry-After`` and
        ``retry-after-ms``, rounded up. ``None``: the request is larger than the limit (``x-should-retry: false``).
    """

    row = PAGE["rate_limit_exceeded"]

    def __init__(self, retry_after: float | None, **fields: Unpack[Overrides]) -> None:
        option, no_wait = "RateLimitExceeded(retry_after)", {"x-should-retry": "false"}
        headers = no_wait if retry_after is None else _wait(option, retry_after)
        if (seconds := headers.get("Retry-After")) is None:
            fields["message"] = fields.get("message") or "The request is larger than the rate limit."
        else:
            self._placeholders = {"seconds": seconds, "s": "" if seconds == "1" else "s"}
        super().__init__(**merged(fields, headers=headers))


class UpstreamTimeout(APIError):
    """500: the backend did not respond in time. It may have executed the request."""

    row = PAGE["upstream_timeout"]

    def __init__(self, **fields: Unpack[Overrides]) -> None:
        super().__init__(**fields)


class SubsystemOffline(APIError):
    """503: one subsystem is offline.

    :param name: the subsystem, as the beginning of a sentence: ``"The playground"``.
    :param retry_after: seconds until the subsystem is back, if that is known.
    """

    row = PAGE["subsystem_offline"]

    def __init__(self, name: str, retry_after: float | None = None, **fields: Unpack[Overrides]) -> None:
        headers = None if retry_after is None else _wait("SubsystemOffline(retry_after)", retry_after)
        self._placeholders = {"name": str(name)}
        super().__init__(**merged(fields, headers=headers))


def received(kind: type[APIError], status: int, body: ErrorBody) -> APIError:
    """Make the error that describes another server's response.

    The constructor of ``kind`` is not called: the error has the fields of ``body``. It does not report itself, because
    it is not the response of the app that makes it.
    """
    error = kind.__new__(kind)
    error._set(body.message, status=status, type=body.type, code=body.code, param=body.param, doc_url=body.doc_url)
    return error


def _wait(option: str, seconds: Any) -> dict[str, str]:
    if not (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf):
        raise ConfigError(option, seconds, "a number of seconds, at least 0")
    return dict(retry_headers(seconds))


def _revive(cls: type[FlexmwError], args: tuple[Any, ...], state: dict[str, Any]) -> FlexmwError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    error.args = args
    return error
