"""Which upstream an SDK's call was last sent to when it was given back as ambiguous.

An SDK that retries above the client repeats such a call. The repetition goes to that upstream alone: the Retry inside
remembers the call there, and either goes on under its key or raises the same error again without sending anything.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Any, Final

from flexmw.contract import stable_body
from flexmw.kit.forked import fork_safe
from flexmw_fallback._credentials import query_without_credentials
from flexmw_fallback._requests import body_of

__all__ = ["GivenBack"]

_SECONDS: Final = 600.0
_MAX_CALLS: Final = 4096


class GivenBack:
    """Ambiguous calls by a digest of the request. Shared by threads and tasks."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._calls: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def remember(self, request: Any, upstream: int, now: float) -> None:
        """Record that a call was given back as ambiguous by one upstream, by its place."""
        with self._lock:
            digest = _digest(request)
            self._calls[digest] = (now + _SECONDS, upstream)
            self._calls.move_to_end(digest)
            if len(self._calls) > _MAX_CALLS:
                self._calls.popitem(last=False)

    def find(self, request: Any, now: float) -> int | None:
        """The place of the upstream that gave an equal call back; ``None`` where none did."""
        with self._lock:
            expires, upstream = self._calls.get(_digest(request), (0.0, -1))
            return upstream if expires > now else None


def _digest(request: Any) -> bytes:
    """Equal for equal requests, whoever sends them: an SDK may show a new token in each of its attempts."""
    url = request.url
    parts = (request.method, url.scheme, url.netloc.decode("ascii"), url.path)
    query = query_without_credentials(url.query.decode("ascii", "replace"))
    digest = hashlib.blake2b("\0".join((*parts, query)).encode("utf-8", "replace"), digest_size=16)
    digest.update(stable_body(body_of(request) or b"", request.headers.get("content-encoding", "")))
    return digest.digest()
