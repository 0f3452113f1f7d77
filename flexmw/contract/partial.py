"""Partial error: the fields of an error that one body or one exception states. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PartialError"]


@dataclass(frozen=True, slots=True)
class PartialError:
    """The fields of an error that a body states.

    :func:`flexmw.contract.bodies.complete` fills those that are ``None`` from the status.

    :param members: further members of the error, safe to send.
    :param siblings: further members beside the error object, safe to send.
    """

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    doc_url: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    siblings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
