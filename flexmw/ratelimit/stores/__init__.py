"""Where a limiter keeps its counts: memory, redis, and the storages of ``limits``."""

from __future__ import annotations

__all__: list[str] = []
