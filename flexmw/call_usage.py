"""Messages for a wrong call of an error class: an error is often made in a branch that no test runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, cast

__all__ = ["explain_calls", "usage"]

_KEYWORDS: Final = ("message", "status", "type", "code", "param", "doc_url", "headers")
"""The keywords that every error class takes."""


def explain_calls(cls: type[Any], call_error: type[Any]) -> None:
    """Make a wrong call of a class raise an error that says how the class is called.

    :param cls: the class; its ``__init__`` is wrapped.
    :param call_error: :class:`flexmw.errors.CallError`, which this module cannot import.
    """
    init: Callable[..., None] = cls.__init__

    @functools.wraps(init)
    def explained(self: Any, *args: Any, **fields: Any) -> None:
        try:
            init(self, *args, **fields)
        except TypeError as error:
            if isinstance(error, call_error):
                problem = cast("Any", error).problem  # of the base class that the keywords were passed to
            elif error.__traceback__ is not None and error.__traceback__.tb_next is None:
                problem = str(error).partition("() ")[2] or str(error)
            else:
                raise  # an error from inside `init` is not about the arguments
            kind: type[Any] = type(self)
            given = (*args, *(f"{name}={value!r}" for name, value in fields.items()))
            raise call_error(kind.__name__, given, problem, usage(kind)) from None

    cls.__init__ = explained


def usage(kind: type[Any]) -> str:
    """How a class of errors is called: its own arguments, and the keywords that every class takes."""
    parameters = [
        parameter
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    first = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
    ]
    names = {parameter.name for parameter in parameters}
    return f"{kind.__name__}({', '.join([*first, *(f'{name}=...' for name in _KEYWORDS if name not in names)])})"
