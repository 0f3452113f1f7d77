"""Conformance tool: probes that judge an HTTP API from outside, by the error contract and the standards of HTTP.

A probe is a generator. It yields requests, is sent responses, and returns a verdict; it does no I/O itself. The command
``flexmw check`` (:mod:`flexmw.cli.check`) and the pytest helpers (:mod:`flexmw.testing.conformance`) run the same table
of probes.

>>> from flexmw.conformance.probes import PROBES
>>> sorted({probe.group for probe in PROBES})[:4]
['bodies', 'cors', 'errors', 'idempotency']

Private: ``flexmw.testing.conformance`` has the public names.
"""

from __future__ import annotations

__all__: list[str] = []
