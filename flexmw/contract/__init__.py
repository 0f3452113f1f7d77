"""The wire contract as values: error object, status table, waits and rate-limit headers. Pure; imports no framework.

>>> from flexmw.contract import PAGE, ErrorBody
>>> row = PAGE["invalid_api_key"]
>>> ErrorBody(message=row.message, type=row.type, code=row.code).as_dict()["error"]["code"]
'invalid_api_key'

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw.contract.codings import Plain, decode, stable_body
from flexmw.contract.credentials import lasting_part, shows_caller
from flexmw.contract.dates import http_date
from flexmw.contract.error import ErrorBody
from flexmw.contract.idempotent_stream import ends_whole
from flexmw.contract.limit_headers import LimitReading, read_limits, reset_wait, tightest
from flexmw.contract.quota import HeaderStyle, Quota, render, retry_headers
from flexmw.contract.redact import ACCOUNTS, CREDENTIALS, redact
from flexmw.contract.request_secrets import is_secret_name
from flexmw.contract.resets import reset_seconds
from flexmw.contract.sdk import parse_retry_count
from flexmw.contract.table import OWN, PAGE, STATUS, Row, for_status
from flexmw.contract.waits import Wait, key_ttl, names_wait, wait_of

__all__ = [
    "ACCOUNTS",
    "CREDENTIALS",
    "OWN",
    "PAGE",
    "STATUS",
    "ErrorBody",
    "HeaderStyle",
    "LimitReading",
    "Plain",
    "Quota",
    "Row",
    "Wait",
    "decode",
    "ends_whole",
    "for_status",
    "http_date",
    "is_secret_name",
    "key_ttl",
    "lasting_part",
    "names_wait",
    "parse_retry_count",
    "read_limits",
    "redact",
    "render",
    "reset_seconds",
    "reset_wait",
    "retry_headers",
    "shows_caller",
    "stable_body",
    "tightest",
    "wait_of",
]
