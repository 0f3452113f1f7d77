"""What an exception says by its class and by those it was made from. Pure.

>>> try:
...     try:
...         raise OSError
...     except OSError as error:
...         raise TimeoutError from error
... except TimeoutError as error:
...     [type(each).__name__ for each in causes_of(error)]
['TimeoutError', 'OSError']
"""

from __future__ import annotations

__all__ = ["bare", "causes_of", "class_names"]


def bare(error: BaseException) -> BaseException:
    """The same error without its traceback, causes and request: they would keep a body for as long as it is kept."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update({name: None if name == "_request" else value for name, value in vars(error).items()})
    return twin


def causes_of(error: BaseException, *, hidden: bool = False) -> list[BaseException]:
    """An error and what it was made from: the client library's, the transport's, the protocol's.

    ``hidden``: that of one raised ``from None`` too. It proves nothing: a context may also be what the caller was
    handling when this call began.
    """
    causes = [error]
    while len(causes) < 5:
        last = causes[-1]
        below = last.__cause__ or (last.__context__ if hidden and last.__suppress_context__ else None)
        if below is None:
            break
        causes.append(below)
    return causes


def class_names(*errors: BaseException) -> frozenset[str]:
    """The names of the errors' classes and of what those inherit: the client libraries' own are never imported here."""
    return frozenset(cls.__name__ for error in errors for cls in type(error).__mro__)
