"""Count of an SDK's repetitions of a call: from a request header, else from the stack.

>>> import httpx
>>> sdk_retry_count(httpx.Request("POST", "http://a/", headers={"x-stainless-retry-count": "2"}))
2
>>> sdk_retry_count(httpx.Request("POST", "http://a/")) is None
True
"""

from __future__ import annotations

from typing import Any, Final

from flexmw.contract.sdk import RETRY_COUNT, parse_retry_count
from flexmw.kit.stack_count import sdk_count_on_stack

__all__ = ["SDK_COUNT", "sdk_retry_count"]

SDK_COUNT: Final = RETRY_COUNT.decode()
"""The name of the header, as a text."""


def sdk_retry_count(request: Any) -> int | None:
    """Return how often an SDK that retries above the client has sent the call of a request before.

    The SDKs of openai, anthropic and groq send the count in ``x-stainless-retry-count``. Others keep it on the stack:
    see :mod:`flexmw.kit.stack_count`. For a component outside Retry, called while its flow runs.

    :param request: the request of the flow.
    :returns: 0 for a first attempt; ``None`` if the call was not made by such an SDK, as far as Retry knows.
    """
    count = parse_retry_count(request.headers.get(SDK_COUNT))
    if count:
        return count
    on_stack = sdk_count_on_stack()
    return count if on_stack is None else on_stack
