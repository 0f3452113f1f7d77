"""The table of all probes, one module for each group.

Private: ``flexmw.testing.conformance`` has the public names.
"""

from __future__ import annotations

from typing import Final

from flexmw.conformance.probes import bodies, cors, errors, idempotency, ids, limits, methods, resumable, streams
from flexmw.conformance.values import Probe

__all__ = ["GROUPS", "PROBES"]

PROBES: Final[tuple[Probe, ...]] = (
    *errors.PROBES,
    *ids.PROBES,
    *methods.PROBES,
    *bodies.PROBES,
    *cors.PROBES,
    *streams.PROBES,
    *idempotency.PROBES,
    *resumable.PROBES,
    *limits.PROBES,
)
"""Every probe, in the order in which they are sent. Those of a burst are sent last."""

GROUPS: Final = tuple(dict.fromkeys(probe.group for probe in PROBES))
