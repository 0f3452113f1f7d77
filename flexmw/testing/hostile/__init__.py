"""A server that misbehaves on order and counts executions: the oracle for every claim about retries."""

from __future__ import annotations

from flexmw.testing.hostile.server import HostileServer

__all__ = ["HostileServer"]
