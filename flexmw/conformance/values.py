"""Requests, responses and verdicts: the values that probes, judges and the runner exchange. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from flexmw.conformance.target import Target

__all__ = [
    "COSTS",
    "Cost",
    "NoResponse",
    "Probe",
    "Request",
    "Response",
    "Row",
    "Skipped",
    "State",
    "Step",
    "Steps",
    "Together",
    "Verdict",
    "Wait",
    "judged",
    "send",
    "send_together",
    "wait",
]

Cost: TypeAlias = Literal["harmless", "burst", "paid"]
State: TypeAlias = Literal["passed", "failed", "skipped"]

COSTS: Final[Mapping[Cost, str]] = {
    "harmless": "invalid requests and reads: the server does no work",
    "burst": "up to 200 invalid requests, until the rate limiter refuses one",
    "paid": "valid requests: the server does the work, and may bill it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a probe. Equal requests of different probes are sent once, unless they are ``fresh``.

    :param path: the path below the base URL.
    :param query: the query, without the one of the base URL.
    :param headers: further headers, in this order.
    :param body: the body; ``None`` sends none.
    :param media_type: the content type of the body.
    :param key: ``"given"`` sends the user's API key, ``"wrong"`` a key that cannot exist, ``"none"`` no key.
    :param chunked: send the body in chunks, without a ``Content-Length``.
    :param declared_bytes: announce a body of so many bytes with ``Expect: 100-continue``, and send none of it.
    :param read_bytes: close the connection after so many bytes of the response's body; ``None`` reads it whole.
    :param fresh: send the request although an equal one was sent.
    :param obey: on a 429, wait as long as the response says and send again; ``False`` gives the 429 to the probe.
    """

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    media_type: str = "application/json"
    key: Literal["given", "wrong", "none"] = "given"
    chunked: bool = False
    declared_bytes: int | None = None
    read_bytes: int | None = None
    fresh: bool = False
    obey: bool = True

    def __str__(self) -> str:
        path = self.path if len(self.path) <= 60 else f"{self.path[:57]}..."
        return f"{self.method} {path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response.

    :param headers: names in lower case; several lines of one name are joined by ``", "``.
    :param body: the body as it arrived, after the transfer coding was removed. For HEAD: what arrived after the head.
    :param seconds: Unix seconds of this machine when the response arrived.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Together:
    """Requests that are sent at the same moment, each on its own connection."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause of so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe found. ``notes`` are the faults of a failed probe, and the reason of a skipped one."""

    state: State
    notes: tuple[str, ...] = ()


Step: TypeAlias = Request | Together | Wait
Steps: TypeAlias = Generator[Step, Any, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to an API.

    :param group: the group that ``--group`` selects.
    :param cost: a key of :data:`COSTS`.
    :param asks: what is sent, and which response passes: one sentence for users.
    :param source: the standard or contract behind it.
    :param steps: makes the generator that asks and judges.
    """

    name: str
    group: str
    cost: Cost
    asks: str
    source: str
    steps: Callable[[Target], Steps]

    @property
    def id(self) -> str:
        """Group and name, such as ``"errors/no-key"``."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one probe.

    :param exchanges: what was sent and what came back, such as ``"GET /models 200"``.
    """

    probe: Probe
    state: State
    notes: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()


class Skipped(Exception):
    """Raised by a probe whose question does not apply; the text is the reason."""


class NoResponse(Exception):
    """Raised by a client whose request got no HTTP response; the text says why. It fails the probe."""


def judged(faults: Sequence[str]) -> Verdict:
    """The verdict of a probe that could judge: failed where there are faults."""
    return Verdict("failed" if faults else "passed", tuple(dict.fromkeys(faults)))


def send(request: Request) -> Generator[Step, Any, Response]:
    """Send one request: ``response = yield from send(request)``."""
    response: Response = yield request
    return response


def send_together(*requests: Request) -> Generator[Step, Any, tuple[Response, ...]]:
    """Send requests at the same moment; the responses come in the order of the requests."""
    responses: tuple[Response, ...] = yield Together(requests)
    return responses


def wait(seconds: float) -> Generator[Step, Any, None]:
    """Pause the probe."""
    yield Wait(seconds)
