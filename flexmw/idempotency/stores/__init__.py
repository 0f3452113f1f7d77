"""Where the records of idempotency keys are kept: memory, sqlite, redis."""

from __future__ import annotations

__all__: list[str] = []
