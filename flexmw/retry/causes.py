"""Read an exception by the classes of the exception and of its causes. Pure.

>>> try:
...     try:
...         raise OSError
...     except OSError as error:
...         raise TimeoutError from error
... except TimeoutError as error:
...     [type(cause).__name__ for cause in causes_of(error)]
['TimeoutError', 'OSError']
"""

from __future__ import annotations

from typing import Final

from flexmw.contract.exception_slots import args_of, attributes_of, cause_of, context_of, hides_context

__all__ = ["causes_of", "class_names", "copy_without_references", "proves_unsent"]

_MAX_CAUSES: Final = 5
_MAX_TEXT: Final = 1000
"""The longest message that is kept, in characters: it may contain text of the server."""

_BEFORE_SENDING: Final = frozenset(
    {
        ("aiohttp", "ClientConnectorError"),
        ("aiohttp", "ConnectionTimeoutError"),
        ("builtins", "ConnectionRefusedError"),
        ("socket", "gaierror"),
    }
)
"""Module root and class of the causes that prove a failure before anything was sent: a connection that was refused or
not established, a name that was not resolved. aiohttp's own classes were checked with aiohttp 3.14."""


def copy_without_references(error: BaseException) -> BaseException:
    """Copy an error without its traceback, causes and request, so that a remembered error keeps no body in memory."""
    args = [arg[:_MAX_TEXT] if isinstance(arg, str) else arg for arg in args_of(error)]
    twin = type(error).__new__(type(error), *args)
    attributes = {name: None if name == "_request" else value for name, value in attributes_of(error).items()}
    attributes_of(twin).update(attributes)
    return twin


def causes_of(error: BaseException, *, hidden: bool = False) -> list[BaseException]:
    """Return an error and its causes: the errors of the client library, of the transport and of the protocol.

    :param hidden: follow an exception raised ``from None`` to its context as well. A context proves nothing: it may
        be an exception that the caller was handling when this call began.
    """
    causes = [error]
    while len(causes) < _MAX_CAUSES:
        last = causes[-1]
        cause = cause_of(last) or (context_of(last) if hidden and hides_context(last) else None)
        if cause is None:
            break
        causes.append(cause)
    return causes


def class_names(*errors: BaseException) -> frozenset[str]:
    """The names of the errors' classes and of all their bases. Names, because this package imports neither client
    library, and both libraries use the same ones."""
    return frozenset(cls.__name__ for error in errors for cls in type(error).__mro__)


def proves_unsent(error: BaseException) -> bool:
    """Return whether a cause of an error proves that nothing was sent. For transports that report no events.

    The class of the error itself proves nothing: the bridges to aiohttp raise ``ConnectError`` and ``ConnectTimeout``
    for every lost connection.
    """
    return any(
        (cls.__module__.partition(".")[0], cls.__name__) in _BEFORE_SENDING
        for cause in causes_of(error)[1:]
        for cls in type(cause).__mro__
    )
