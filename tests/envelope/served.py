"""Hosts as module attributes, for servers that run in a process of their own."""

from __future__ import annotations

import flexmw
from tests.envelope.apps import fastapi_app

__all__ = ["fastapi"]

fastapi = flexmw.Envelope(max_wait=0.3).asgi(fastapi_app())
