"""The event loop that a store over a network needs."""

from __future__ import annotations

from asyncio import get_running_loop

from flexmw.errors import ConfigError

__all__ = ["check_event_loop"]


def check_event_loop() -> None:
    """Stores over a network need asyncio.

    :raises ConfigError: under trio.
    """
    try:
        get_running_loop()
    except RuntimeError:
        expected = "memory:// under trio: stores over a network need a server that runs on asyncio"
        raise ConfigError("RateLimit(storage=...)", "<a store over a network>", expected) from None
