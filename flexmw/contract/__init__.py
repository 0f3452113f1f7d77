"""The wire contract as values: error object, status table, waits and rate-limit headers. Pure; imports no framework.

>>> from flexmw.contract import PAGE, ErrorBody
>>> row = PAGE["invalid_api_key"]
>>> ErrorBody(message=row.message, type=row.type, code=row.code).as_dict()["error"]["code"]
'invalid_api_key'
"""

from __future__ import annotations

from flexmw.contract.error import ErrorBody
from flexmw.contract.quota import HeaderStyle, Quota, QuotaReading, read, render, retry_headers
from flexmw.contract.redact import CREDENTIALS, redact
from flexmw.contract.table import PAGE, STATUS, Row, for_status
from flexmw.contract.waits import Wait, http_date, key_ttl, reset_seconds, wait_of

__all__ = [
    "CREDENTIALS",
    "PAGE",
    "STATUS",
    "ErrorBody",
    "HeaderStyle",
    "Quota",
    "QuotaReading",
    "Row",
    "Wait",
    "for_status",
    "http_date",
    "key_ttl",
    "read",
    "redact",
    "render",
    "reset_seconds",
    "retry_headers",
    "wait_of",
]
