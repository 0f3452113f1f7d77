"""Names of Retry's options: a name that does not exist is refused with the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, Final

from flexmw.errors import ConfigError

__all__ = ["check_names", "explain_names"]

_MEANT: Final = {
    "statuses": "classify",
    "status_forcelist": "classify",
    "retry_on": "classify",
    "total": "attempts",
    "max_retries": "attempts",
    "retries": "attempts",
    "timeout": "deadline",
    "allowed_methods": "idempotent",
    "respect_retry_after_header": "max_retry_after",
}
"""Names of other retry libraries, and the option that does the same here."""


def check_names(policy_class: Any, options: Mapping[str, Any], where: str = "retry options") -> dict[str, Any]:
    """Return a copy of the options.

    :param policy_class: :class:`flexmw.Retry`, or a subclass: the dataclass whose fields are the options.
    :param where: where the options come from, for the message.
    :raises ConfigError: an option does not exist.
    """
    names = [option.name for option in fields(policy_class) if option.init]
    for name in options:
        if name not in names:
            similar = difflib.get_close_matches(name, names, n=1)
            meant = _MEANT.get(name) or (similar[0] if similar else None)
            guess = f"; did you mean {meant!r}?" if meant else ""
            raise ConfigError(where, name, f"one of {', '.join(names)}{guess}")
    return dict(options)


def explain_names(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap the ``__init__`` of a policy: an option that does not exist is a ``ConfigError`` instead of a ``TypeError``.

    A ``__new__`` would do it too, but ``inspect.signature`` would show its parameters in place of the options.
    """

    @wraps(init)
    def __init__(self: Any, **options: Any) -> None:  # noqa: N807
        check_names(type(self), options, f"{type(self).__name__}(...)")
        init(self, **options)

    return __init__
