"""What flexmw says of a call, wherever it says it."""

from __future__ import annotations

from typing import Any

import flexmw

__all__ = ["outcome"]


def outcome(result: Any) -> flexmw.Outcome:
    """The outcome on an answer or on an exception."""
    said = result.flexmw if isinstance(result, Exception) else result.extensions["flexmw"]
    assert isinstance(said, flexmw.Outcome)
    return said
