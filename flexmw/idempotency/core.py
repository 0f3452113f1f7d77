"""The state machine of one idempotency key, as values and transitions.

::

    (nothing) --claim--> running --settle--> done       the answer is kept and replayed
        ^                   |  \\--release--> open       nothing was done; steps are kept for the next attempt
        |                   |
        '---- expiry        '--lapse--> unknown         the lease ran out or the work was cut off: nobody knows

A claim that was won and whose app was not called yet is *claimed*: it can still be given back. From the call of the
app on it is *running* and ends in one of the other states only. A running record is told apart from an unknown one by
its lease alone, so that a process that was killed need not write anything.

>>> ask = Ask(key="k", fingerprint="f", now=0.0)
>>> first = decide(None, alive=False, ask=ask)
>>> type(first).__name__, first.record.attempt
('Run', 1)
>>> decide(first.record, alive=True, ask=ask)
Refuse(reason='in_progress')
>>> decide(first.record, alive=False, ask=ask)
Refuse(reason='unknown')
>>> decide(first.record, alive=True, ask=Ask(key="k", fingerprint="other", now=0.0))
Refuse(reason='reused')

Follows draft-ietf-httpapi-idempotency-key-header-07 for what a caller is told, and adds ``unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self, TypeAlias, cast

__all__ = [
    "Ask",
    "Decision",
    "Kept",
    "OnUnknown",
    "Phase",
    "Reason",
    "Record",
    "Refuse",
    "Replay",
    "Run",
    "decide",
    "lapse",
    "release",
    "settle",
]

Phase: TypeAlias = Literal["running", "done", "unknown", "open"]
Reason: TypeAlias = Literal["reused", "in_progress", "unknown"]
OnUnknown: TypeAlias = Literal["refuse", "run"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer as it is kept. ``body`` is ``None`` when its ``size`` in bytes was above the bound."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of one key.

    ``key`` is the caller's own text (or the id of a request without one), ``at`` the Unix time of the claim and
    ``attempt`` counts claims from 1. ``steps`` are the recovery points that the handler recorded (JSON values),
    ``what`` is the method and path, for an operator.
    """

    phase: Phase
    key: str
    fingerprint: str
    at: float
    attempt: int = 1
    what: str = ""
    steps: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kept: Kept | None = None

    def encode(self) -> bytes:
        """One line of JSON, then the body as it is."""
        head: dict[str, Any] = {
            "v": _FORMAT,
            "phase": self.phase,
            "key": self.key,
            "fingerprint": self.fingerprint,
            "at": self.at,
            "attempt": self.attempt,
            "what": self.what,
            "steps": dict(self.steps),
        }
        body = b""
        if self.kept is not None:
            head["status"], head["headers"], head["size"] = self.kept.status, self.kept.headers, self.kept.size
            head["body"] = self.kept.body is not None
            body = self.kept.body or b""
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + body

    @classmethod
    def decode(cls, entry: bytes) -> Self:
        """The inverse of :meth:`encode`. Raises ``ValueError`` for bytes that it did not write."""
        line, found, body = entry.partition(b"\n")
        head: Any = json.loads(line)
        if not (found and isinstance(head, dict)) or cast("dict[str, Any]", head).get("v") != _FORMAT:
            raise ValueError(f"not an idempotency record of format {_FORMAT}")
        fields = cast("dict[str, Any]", head)
        kept = None
        if "status" in fields:
            kept = Kept(
                status=fields["status"],
                headers=tuple((name, value) for name, value in fields["headers"]),
                body=body if fields["body"] else None,
                size=fields["size"],
            )
        names = ("phase", "key", "fingerprint", "at", "attempt", "what", "steps")
        return cls(kept=kept, **{name: fields[name] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that wants to run: its key, the fingerprint of what it asks for, and when (Unix seconds)."""

    key: str
    fingerprint: str
    now: float
    what: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Claim the key by writing ``record``; whoever succeeds runs the app."""

    record: Record


@dataclass(frozen=True, slots=True)
class Replay:
    """Answer with what is kept."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not run: ``reused`` (another request has this key), ``in_progress``, or ``unknown``."""

    reason: Reason


Decision: TypeAlias = Run | Replay | Refuse


def decide(held: Record | None, *, alive: bool, ask: Ask, on_unknown: OnUnknown = "refuse") -> Decision:
    """What becomes of a request whose key is held as ``held``; ``alive`` says whether its lease still runs."""
    if held is None:
        return Run(Record(phase="running", key=ask.key, fingerprint=ask.fingerprint, at=ask.now, what=ask.what))
    if held.fingerprint != ask.fingerprint:
        return Refuse("reused")
    if held.phase == "done" and held.kept is not None:
        return Replay(held.kept)
    if held.phase == "running" and alive:
        return Refuse("in_progress")
    if held.phase == "open" or on_unknown == "run":
        return Run(replace(held, phase="running", at=ask.now, attempt=held.attempt + 1))
    return Refuse("unknown")


def settle(record: Record, kept: Kept) -> Record:
    """The work is finished and this is its answer, from now on the only one."""
    return replace(record, phase="done", kept=kept, steps={})


def release(record: Record) -> Record | None:
    """Nothing was done. ``None``: forget the key; a record: keep the steps that were, so that they are not repeated."""
    return replace(record, phase="open") if record.steps else None


def lapse(record: Record) -> Record:
    """The work was cut off: what it did is unknown."""
    return replace(record, phase="unknown")
