"""The former name of :mod:`flexmw.ratelimit.limits_storage`. Importing it warns."""

from __future__ import annotations

import warnings

from flexmw.ratelimit.limits_storage import AsyncMemoryStorage, MemoryStorage

__all__ = ["AsyncMemoryStorage", "MemoryStorage"]

warnings.warn(
    "flexmw.ratelimit.storage has moved: import flexmw.ratelimit.limits_storage", DeprecationWarning, stacklevel=2
)
