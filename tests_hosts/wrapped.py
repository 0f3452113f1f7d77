"""The components of every cell of the matrix."""

from __future__ import annotations

from typing import Any

import flexmw
from tests_hosts.apps import Host

__all__ = ["wrapped"]


def wrapped(host: Host, app: Any) -> Any:
    """Put components around an app: errors, telemetry, a limit of one request in a day for ``/once``, keyed POSTs."""
    put = flexmw.install if host.installs else flexmw.wrap_app
    return put(
        app,
        flexmw.Tagging(),
        flexmw.Envelope(),
        flexmw.RateLimit("100000/minute", limit={"GET /once": "1/day"}),
        flexmw.Idempotency(),
    )
