"""What makes a process of tests quick, and changes no result."""

from __future__ import annotations

import gc
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["collect_no_garbage_while_importing", "freeze_imported_objects", "read_no_public_certificates"]

_BUNDLE_BYTES: Final = 100_000
"""A file of certificates that is larger is the bundle of all public authorities. A test's own authority has 1 kB."""


def read_no_public_certificates() -> None:
    """Let a TLS context leave out the public authorities.

    No test leaves the machine, yet each httpx client parses a bundle of 140 certificates: 30 ms, which was two thirds
    of the time of the client tests. A certificate of a test server is as little trusted as before.
    """
    load: Any = ssl.SSLContext.load_verify_locations

    def load_verify_locations(
        context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None
    ) -> None:
        if cafile is None or not Path(cafile).is_file() or Path(cafile).stat().st_size < _BUNDLE_BYTES:
            load(context, cafile, capath, cadata)

    ssl.SSLContext.load_verify_locations = load_verify_locations  # type: ignore[method-assign, assignment]


def collect_no_garbage_while_importing() -> None:
    """Stop the garbage collector until :func:`freeze_imported_objects`: imports make objects that stay."""
    gc.disable()


def freeze_imported_objects() -> None:
    """Start the garbage collector, and take from it what imports have made: a million objects to visit at each run."""
    # trio gives hypothesis its random generator when hypothesis is imported, which the pytest plugin may do at the very
    # end. hypothesis counts the referrers of the generator, and frozen ones are not seen.
    with suppress(ImportError):
        import hypothesis  # noqa: F401
    gc.freeze()
    gc.enable()
