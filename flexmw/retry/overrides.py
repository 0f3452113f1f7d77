"""Options of Retry for the calls inside a ``with`` block.

>>> policy = Retry(attempts=5)
>>> with retry_options(idempotent=True):
...     policy.for_call({}).idempotent
True
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from flexmw.errors import ConfigError
from flexmw.retry.component import Retry
from flexmw.retry.option_names import check_names
from flexmw.retry.options import OVERRIDES, UNSET

__all__ = ["retry_options"]


@contextmanager
def retry_options(policy: Retry | None = UNSET, /, **options: Any) -> Generator[None]:
    """Change the options of Retry for the calls inside the ``with`` block, for SDKs that hide ``request.extensions``.

    ``retry_options(attempts=5, idempotent=True)`` changes these options of the client's policy;
    ``retry_options(None)`` switches Retry off; ``retry_options(Retry(...))`` replaces the policy.

    The options apply to the current task or thread, and to the tasks that it starts in the block. A new thread has its
    own context: give it a copy, ``executor.submit(contextvars.copy_context().run, call)``. The options do not apply
    after another thread has resumed the caller, as web frameworks do with a synchronous generator.

    :raises ConfigError: an option that Retry does not have, or a value that it does not take.
    """
    if policy is UNSET:
        _check_values(check_names(Retry, options))
    elif not (policy is None or isinstance(policy, Retry)):
        raise ConfigError("retry_options(policy)", policy, "a flexmw.Retry, None, or options as keywords")
    elif options:
        raise ConfigError("retry_options(policy, ...)", sorted(options), "a policy or options, not both")
    token = OVERRIDES.set(options if policy is UNSET else policy)
    try:
        yield
    finally:
        with suppress(ValueError):  # a framework has resumed a synchronous generator in another thread's context
            OVERRIDES.reset(token)


def _check_values(options: Mapping[str, Any]) -> None:
    """Check the values of options that will be merged into a policy that is not known yet.

    Some options need a second option. If the second option is not given here, the policy may have it, so a valid value
    stands for it.
    """
    assumed: dict[str, Any] = {}
    if "key_origins" not in options:
        assumed["key_origins"] = ("https://any.invalid",)
    if "resume" not in options and "resume_patience" in options:
        assumed["resume"] = 1
    replace(Retry(), **{**assumed, **options})
