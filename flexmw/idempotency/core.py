"""The state machine of one idempotency key, as values and transitions.

::

    (nothing) --claim--> running --complete--> done     the response is stored and replayed
        ^                   |  \\--release---> open      nothing was done; steps are kept for the next attempt
        |                   |
        '---- expiry        '--lapse--> unknown         the lease ran out or the work was cut off: nobody knows

A claim whose app was not called yet can still be given back. Once the app was called, the record is running until it
reaches one of the other states. A running record whose lease has run out counts as unknown: a process that was killed
cannot write anything.

>>> request = KeyedRequest(key="k", fingerprint="f", now=0.0)
>>> first = decide(None, alive=False, request=request)
>>> type(first).__name__, first.record.attempt
('Run', 1)
>>> decide(first.record, alive=True, request=request)
Refuse(reason='in_progress')
>>> decide(first.record, alive=False, request=request)
Refuse(reason='unknown')
>>> decide(first.record, alive=True, request=KeyedRequest(key="k", fingerprint="other", now=0.0))
Refuse(reason='reused')

The responses follow draft-ietf-httpapi-idempotency-key-header-07; the state ``unknown`` is an addition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final, Literal, Self, TypeAlias, cast

__all__ = [
    "Decision",
    "KeyedRequest",
    "OnUnknown",
    "Phase",
    "Reason",
    "Record",
    "Refuse",
    "Replay",
    "Run",
    "StoredResponse",
    "begin",
    "complete",
    "decide",
    "lapse",
    "release",
    "stop",
]

Phase: TypeAlias = Literal["running", "done", "unknown", "open"]
Reason: TypeAlias = Literal["reused", "in_progress", "unknown"]
OnUnknown: TypeAlias = Literal["refuse", "run"]

_JSON: Final = json.JSONEncoder(separators=(",", ":"))

_FORMAT: Final = 2
"""Format 1 held keys and paths in the clear. Its records have other names, so no request finds them."""


# Nothing changes a StoredResponse, a Record, a KeyedRequest or a Run. They are not frozen, because a frozen dataclass
# sets each field by a call: three times the cost of the object, for several objects of each request. What runs for each
# request gives their fields by position, because Python makes a dict of keywords.
@dataclass(slots=True)
class StoredResponse:
    """A response as a store holds it.

    :param status: the HTTP status.
    :param headers: the headers that belong to the result, with lower-case names.
    :param body: the body in bytes; ``None`` when it was larger than ``max_body``.
    :param size: length of the body in bytes, also when the body is not stored. Another number than the length of
        ``body`` says that an error is stored in place of a response of which a part was sent.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b""
    size: int = 0


@dataclass(slots=True)
class Record:
    """The state of one key.

    :param phase: the state in the diagram above.
    :param key: the key as the caller wrote it, where ``labels`` asks for it, else empty; the id of an SDK call without
        a key.
    :param fingerprint: the keyed hash of the request that has the key.
    :param at: Unix time of the claim in seconds.
    :param attempt: number of claims so far, from 1.
    :param what: method and path, where ``labels`` asks for them, else empty.
    :param steps: the recovery points that the handler recorded, as JSON values.
    :param response: the stored response, in phase ``done`` only.
    :param generation: the public name of the execution, new with each claim that runs; empty in the record of a worker
        that does not know it, whose response cannot be continued. It is not the token of the store.
    :param stopping: an operator has asked the process that runs the execution to end it.
    """

    phase: Phase
    key: str
    fingerprint: str
    at: float
    attempt: int = 1
    what: str = ""
    steps: Mapping[str, Any] = field(default_factory=dict[str, Any])
    response: StoredResponse | None = None
    generation: str = ""
    stopping: bool = False
    _claim: str = field(default="", init=False, repr=False, compare=False)
    """What does not change until the end of the execution, as JSON, once it was encoded: an execution encodes its
    record for the claim and for the response, and the shortest decimal of a time costs as much as all the rest."""

    def encode(self) -> bytes:
        """The record as bytes: one line of JSON, then the body of the response."""
        # Text in the format of json, because json makes a dict, an encoder and a dozen of its closures a third of
        # the cost of a write.
        claim = self._claim
        if not claim:
            claim = self._claim = (
                f'"key":{_quoted(self.key)},"fingerprint":{_quoted(self.fingerprint)},"at":{self.at!r},'
                f'"attempt":{self.attempt},"what":{_quoted(self.what)}'
            )
        line = (
            f'{{"v":{_FORMAT},"phase":{_quoted(self.phase)},{claim},'
            f'"steps":{_JSON.encode(dict(self.steps)) if self.steps else "{}"}'
        )
        if self.generation:
            line += f',"generation":{_quoted(self.generation)}'
        if self.stopping:
            line += ',"stopping":true'
        response = self.response
        if response is None:
            return f"{line}}}\n".encode()
        headers = ",".join([f"[{_quoted(name)},{_quoted(value)}]" for name, value in response.headers])
        line += f',"status":{response.status},"headers":[{headers}],"size":{response.size}'
        if response.body is None:
            return f'{line},"body":false}}\n'.encode()
        return f'{line},"body":true}}\n'.encode() + response.body

    def as_entry(self) -> bytes:
        """The record itself, for a store in this process, which needs no encoding."""
        return cast("bytes", self)

    @classmethod
    def decode(cls, entry: bytes | Self) -> Self:
        """The inverse of :meth:`encode`.

        :param entry: what :meth:`encode` or :meth:`as_entry` has returned.
        :raises ValueError: for bytes that :meth:`encode` did not write.
        """
        if isinstance(entry, Record):
            return entry
        line, newline, body = entry.partition(b"\n")
        head: Any = json.loads(line)
        if not (newline and isinstance(head, dict)) or cast("dict[str, Any]", head).get("v") != _FORMAT:
            raise ValueError(f"not an idempotency record of format {_FORMAT}")
        fields = cast("dict[str, Any]", head)
        response = None
        if "status" in fields:
            response = StoredResponse(
                status=fields["status"],
                headers=tuple((name, value) for name, value in fields["headers"]),
                body=body if fields["body"] else None,
                size=fields["size"],
            )
        names = ("phase", "key", "fingerprint", "at", "attempt", "what", "steps")
        if missing := [name for name in names if name not in fields]:
            raise ValueError(f"not an idempotency record: {missing[0]} is missing")
        generation, stopping = fields.get("generation", ""), fields.get("stopping", False) is True
        return cls(
            response=response, generation=generation, stopping=stopping, **{name: fields[name] for name in names}
        )


@dataclass(slots=True)
class KeyedRequest:
    """A request that claims a key.

    :param key: what the record holds as its ``key``.
    :param fingerprint: the keyed hash of the request.
    :param now: Unix time in seconds.
    :param what: method and path of the request, for operators; empty where they are not kept.
    """

    key: str
    fingerprint: str
    now: float
    what: str = ""


@dataclass(slots=True)
class Run:
    """Claim the key by writing ``record``. The request whose write succeeds runs the app."""

    record: Record


@dataclass(frozen=True, slots=True)
class Replay:
    """Send the stored response."""

    response: StoredResponse


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not run the app: ``reused`` (another request has this key), ``in_progress`` or ``unknown``."""

    reason: Reason


Decision: TypeAlias = Run | Replay | Refuse


def decide(
    held: Record | None, *, alive: bool, request: KeyedRequest, on_unknown: OnUnknown = "refuse", generation: str = ""
) -> Decision:
    """Whether a request runs, gets the stored response, or is refused.

    :param held: the record of its key; ``None`` when the store holds none.
    :param alive: whether the lease of that record is still running.
    :param request: the request.
    :param on_unknown: ``run`` claims a key again whose outcome is unknown.
    :param generation: the generation of the execution, if the request runs.
    """
    if held is None:
        return Run(begin(request, generation))
    if held.fingerprint != request.fingerprint:
        return Refuse("reused")
    if held.phase == "done" and held.response is not None:
        return Replay(held.response)
    if held.phase == "running" and alive:
        return Refuse("in_progress")
    if held.phase == "open" or on_unknown == "run":
        attempt = held.attempt + 1
        return Run(
            replace(held, phase="running", at=request.now, attempt=attempt, generation=generation, stopping=False)
        )
    return Refuse("unknown")


def begin(request: KeyedRequest, generation: str) -> Record:
    """The record of the first request with a key.

    :param generation: the generation of the execution.
    """
    return Record("running", request.key, request.fingerprint, request.now, 1, request.what, {}, None, generation)


def complete(record: Record, response: StoredResponse) -> Record:
    """The work is finished. Every later request with the key gets this response."""
    # Not by `replace`, which costs more than all else of this step.
    fingerprint, attempt = record.fingerprint, record.attempt
    done = Record("done", record.key, fingerprint, record.at, attempt, record.what, {}, response, record.generation)
    done._claim = record._claim
    return done


def release(record: Record) -> Record | None:
    """Nothing was done. Returns the record with the recorded steps, so that the next attempt does not repeat them;
    ``None`` without steps: delete the key."""
    return replace(record, phase="open", generation="", stopping=False) if record.steps else None


def stop(record: Record) -> Record:
    """Record that an operator wants the execution to end. The execution still runs, and its process writes the
    outcome."""
    return replace(record, stopping=True)


def lapse(record: Record) -> Record:
    """The work was cut off: its outcome is unknown."""
    return replace(record, phase="unknown", stopping=False)
