"""Mechanics without policy: the shared exchange, flows and their two drivers, clocks, checked options."""

from __future__ import annotations

__all__: list[str] = []
