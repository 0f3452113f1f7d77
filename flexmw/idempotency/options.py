"""The rules of Idempotency's options: which values each option takes."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from flexmw.contract import CREDENTIALS
from flexmw.errors import ConfigError
from flexmw.idempotency.caller import CALLER_FORMS, caller_function
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.open import is_bounded
from flexmw.kit.forwarded import Proxies, warn_if_everyone_is_trusted
from flexmw.kit.options import Rule, check_effects
from flexmw.kit.path_patterns import path_patterns
from flexmw.kit.storage import is_redis_client
from flexmw.kit.workers import warn_about_memory

__all__ = ["CALLER", "KEY_HEADER", "METHOD", "PEPPER", "PREFIX", "STORAGE", "check_together", "log_at_start"]

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")
_TAKEN: Final = frozenset({"connection", "cookie", "date", "expect", "host", "te", "transfer-encoding", "user-agent"})


def _is_header(name: str) -> bool:
    if not _HEADER_NAME.fullmatch(name) or name in _TAKEN or name in CREDENTIALS:
        return False
    return not name.startswith(("content-", "proxy-", "sec-", "access-control-"))


def _has_utf8(value: str) -> bool:
    """Whether a text has a UTF-8 form: one with half of a surrogate pair has none, and no store can hold it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


METHOD: Final = Rule(
    "a method in capitals, such as 'POST'", lambda value: isinstance(value, str) and value.isalpha() and value.isupper()
)
STORAGE: Final = Rule(
    "a storage URL such as 'sqlite:///keys.db', a client of redis-py, or a flexmw Store",
    lambda value: (isinstance(value, (str, Store)) or is_redis_client(value)) and not isinstance(value, type),
)
KEY_HEADER: Final = Rule(
    "the name of a header that carries nothing else, such as 'X-Idempotency-Key'",
    lambda value: isinstance(value, str) and _is_header(value.lower()),
)
CALLER: Final = Rule(f"{CALLER_FORMS}, or None", lambda value: value is None or caller_function(value) is not None)
PEPPER: Final = Rule(
    "bytes, or a text without half of a surrogate pair, that are not empty",
    lambda value: (isinstance(value, bytes) or (isinstance(value, str) and _has_utf8(value))) and len(value) > 0,
)


PREFIX: Final = Rule(
    "a text that is not empty, without half of a surrogate pair",
    lambda value: isinstance(value, str) and value != "" and _has_utf8(value),
)


def check_together(options: Any) -> None:
    """Check that each option can have an effect beside the others.

    :param options: a :class:`flexmw.Idempotency`.
    :raises ConfigError: for the first option that can have none.
    """
    if not options.methods:
        raise ConfigError("Idempotency(methods=...)", options.methods, "at least one method, such as 'POST'")
    needs = {
        "sdk_window": (options.sdk_retries, "sdk_retries=True, without which it has no effect"),
        "max_request": (
            options.max_request <= options.max_reading,
            f"at most max_reading, {options.max_reading:,}: a longer body is refused in any case",
        ),
    }
    check_effects(options, needs)
    protected = {*options.methods, *(["HEAD"] if "GET" in options.methods else [])}
    for name in ("required", "exempt"):
        value = getattr(options, name)
        if isinstance(value, (str, list, tuple)):
            for pattern in path_patterns(value, f"Idempotency({name}=...)"):
                method = pattern.shape[0]
                if method and method not in protected:
                    expected = f"one of the methods that are protected ({', '.join(options.methods)}), or none"
                    raise ConfigError(f"Idempotency({name}=...)", pattern.name, expected)


def log_at_start(options: Any, proxies: Proxies) -> None:
    """Log what works, and not as its author may expect: memory in several processes, proxies that are everybody, and
    bounds that the store does not take.

    :param options: a :class:`flexmw.Idempotency`.
    """
    logger = logging.getLogger("flexmw.idempotency")
    if options.storage == "memory://":
        warn_about_memory("Idempotency", "a key that comes to another one is executed again", logger)
    names = [name for name in ("capacity", "capacity_bytes") if getattr(options, name) is not None]
    if names and not is_bounded(options.storage):
        logger.warning(
            "Idempotency(%s=...) has no effect on this storage, which has its own bound. Leave it out, and bound a "
            "redis by maxmemory: with maxmemory-policy noeviction a full server refuses new keys, with volatile-ttl it "
            "deletes the keys that expire first, running ones too.",
            "=..., ".join(names),
        )
    warn_if_everyone_is_trusted("Idempotency", proxies, logger)
