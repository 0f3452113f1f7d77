"""The keyword arguments that the kinds of errors share, and how a kind's own values are merged with them.

>>> merged({"status": 410}, param="model")
{'param': 'model', 'status': 410}
>>> merged({"headers": {"retry-after": "9"}}, headers={"Retry-After": "1", "retry-after-ms": "1000"})["headers"]
{'retry-after-ms': '1000', 'retry-after': '9'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["Fields", "Overrides", "merged"]


class Fields(TypedDict, total=False):
    """The fields that a keyword can set on each kind of error."""

    status: int
    type: str
    code: str
    doc_url: str
    headers: Mapping[str, str]


class Overrides(Fields, total=False):
    """The fields that a keyword can set on a kind of error whose class has a default message."""

    message: str
    param: str


def merged(fields: Overrides, **own: Any) -> Any:
    """Merge the values of a kind and of the caller. The caller's values take precedence, also for each single
    header.

    :param fields: the keywords of the caller.
    :param own: the values of the kind.
    """
    values = {**own, **fields}
    given = fields.get("headers")
    if own.get("headers") and given:
        names = {name.lower() for name in given}
        kept = {name: value for name, value in own["headers"].items() if name.lower() not in names}
        values["headers"] = {**kept, **given}
    return values
