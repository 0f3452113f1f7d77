"""OpenTelemetry attributes, exceptions and metrics for the requests of an app and the calls of a client.

>>> from flexmw.tagging import Tagging
>>> Tagging(codes=("quota_frozen",))
Tagging(types=(), codes=('quota_frozen',), exception_text=True, server_address=True, server_span=False, call_span=False)
"""

from __future__ import annotations

from flexmw.tagging.component import Tagging

__all__ = ["Tagging"]
