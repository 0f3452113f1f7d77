"""The rules of Idempotency's options: which values each option takes."""

from __future__ import annotations

import re
from typing import Final

from flexmw.contract import CREDENTIALS
from flexmw.idempotency.caller import CALLER_FORMS, caller_function
from flexmw.idempotency.stores import Store
from flexmw.kit.options import Rule
from flexmw.kit.storage import is_redis_client

__all__ = ["CALLER", "KEY_HEADER", "METHOD", "PEPPER", "STORAGE"]

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")
_TAKEN: Final = frozenset({"connection", "cookie", "date", "expect", "host", "te", "transfer-encoding", "user-agent"})


def _is_header(name: str) -> bool:
    if not _HEADER_NAME.fullmatch(name) or name in _TAKEN or name in CREDENTIALS:
        return False
    return not name.startswith(("content-", "proxy-", "sec-", "access-control-"))


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
    "a text or bytes that are not empty", lambda value: isinstance(value, (str, bytes)) and len(value) > 0
)
