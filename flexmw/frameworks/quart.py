"""Quart: components around ``app.asgi_app``, the method that Quart documents for middleware."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from flexmw.frameworks.interior import Interior

__all__ = ["put"]


def put(app: Any, interior: Interior, layers: ASGIApp) -> None:
    """Put the components around everything in a Quart app."""
    interior.app, app.asgi_app = app.asgi_app, layers
