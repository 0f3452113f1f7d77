"""Responses that say that a request was not carried out.

>>> 429 in REFUSED, 409 in REFUSED, 409 in INCONCLUSIVE
(True, False, True)
>>> 503 in REFUSED, 503 in REFUSED_WITH_RETRY_AFTER
(False, True)
"""

from __future__ import annotations

from typing import Final

__all__ = ["INCONCLUSIVE", "REFUSED", "REFUSED_WITH_RETRY_AFTER"]

REFUSED: Final = frozenset({400, 401, 402, 403, 404, 405, 407, 413, 415, 422, 425, 429})
"""Statuses that say that the request was not carried out. A 409 is not one of them: the conflict may be with an earlier
attempt of the same request, which was carried out."""

_FINAL: Final = frozenset({403, 404, 405, 407})
"""Refusals that another attempt gets again. An app may also have worked before it finds that something is missing."""

INCONCLUSIVE: Final = (REFUSED - _FINAL) | {409}
"""Statuses after which the same request may succeed, because the caller or the state of the app has changed. The server
does not store these responses for an idempotency key: the next request with the key runs."""

REFUSED_WITH_RETRY_AFTER: Final = frozenset({503, 529})
"""Statuses that are a refusal when the response has a ``Retry-After``; one without may follow work. 529 is what
Anthropic's API sends when it is overloaded."""
