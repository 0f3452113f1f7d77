"""Run probes: send what they yield, obey a limiter, share equal requests, and collect one row for each probe.

The runner is the one place with a clock and threads. A 429 is no verdict about the question of a probe: the runner
judges its headers, waits as long as they say, and sends the request again, so that two runs within a minute find the
same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Protocol

from flexmw.conformance.judges import refusal_faults
from flexmw.conformance.target import Target
from flexmw.conformance.values import (
    NoResponse,
    Probe,
    Request,
    Response,
    Row,
    Skipped,
    Step,
    Together,
    Verdict,
    Wait,
)
from flexmw.contract import wait_of

__all__ = ["Progress", "Runner", "Sender"]

Progress = Callable[[str], None]


class Sender(Protocol):
    """Sends one request.

    :raises NoResponse: no HTTP response arrived.
    """

    def __call__(self, request: Request, /) -> Response: ...


class _Refused(Exception):
    """A 429 whose headers are wrong; the arguments are the faults."""


class Runner:
    """Runs probes against one API.

    :param target: what the probes ask.
    :param send: sends one request.
    :param patience: longest time in seconds that all probes together wait for the API's rate limiter.
    :param sleep: pauses for so many seconds.
    :param progress: called with a line of text before each probe.
    :param pause: called with a line of text before each pause.
    """

    def __init__(
        self,
        target: Target,
        send: Sender,
        *,
        patience: float = 180.0,
        sleep: Callable[[float], None] = time.sleep,
        progress: Progress = lambda line: None,
        pause: Progress = lambda line: None,
    ) -> None:
        self.target = target
        self.requests = 0
        self.waited = 0.0
        self._send, self._sleep, self._progress, self._pause = send, sleep, progress, pause
        self._patience = patience
        self._known: dict[Request, Response] = {}

    def run(self, probes: Iterable[Probe]) -> Iterator[Row]:
        """Run probes one after the other, those of a burst last."""
        ordered = sorted(probes, key=lambda probe: probe.cost == "burst")
        for place, probe in enumerate(ordered, 1):
            self._progress(f"{place}/{len(ordered)} {probe.id}")
            yield self.judge(probe)

    def judge(self, probe: Probe) -> Row:
        """Run one probe."""
        exchanges: list[str] = []
        try:
            verdict = self._play(probe, exchanges)
        except Skipped as reason:
            verdict = Verdict("skipped", (str(reason),))
        except NoResponse as reason:
            verdict = Verdict("failed", (f"no response: {reason}",))
        except _Refused as refused:
            verdict = Verdict("failed", refused.args)
        return Row(probe=probe, state=verdict.state, notes=verdict.notes, exchanges=_folded(exchanges))

    def _play(self, probe: Probe, exchanges: list[str]) -> Verdict:
        steps = probe.steps(self.target)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._do(step, exchanges))
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        finally:
            steps.close()

    def _do(self, step: Step, exchanges: list[str]) -> Response | tuple[Response, ...] | None:
        match step:
            case Wait(seconds):
                self._pause(f"waiting {seconds:.0f} s")
                self._sleep(seconds)
                return None
            case Together(requests):
                with ThreadPoolExecutor(len(requests), thread_name_prefix="flexmw-check") as pool:
                    first = list(pool.map(self._send, requests))
                self.requests += len(requests)
                pairs = zip(requests, first, strict=True)
                responses = tuple(self._admitted(request, response) for request, response in pairs)
                exchanges += map("{} {.status}".format, requests, responses)
                return responses
            case Request():
                response = self._one(step)
                exchanges.append(f"{step} {response.status}")
                return response

    def _one(self, request: Request) -> Response:
        """The response to a request, also an earlier one to an equal request."""
        if not request.fresh and (known := self._known.get(request)) is not None:
            return known
        self.requests += 1
        response = self._admitted(request, self._send(request))
        if not request.fresh:
            self._known[request] = response
        return response

    def _admitted(self, request: Request, response: Response) -> Response:
        """The response after the limiter has admitted the request."""
        while response.status == 429 and request.obey:
            self._obey(response)
            self.requests += 1
            response = self._send(request)
        return response

    def _obey(self, response: Response) -> None:
        """Wait as long as a 429 says.

        :raises Skipped: it asks for more than is left of the patience.
        :raises _Refused: its headers are wrong.
        """
        if faults := refusal_faults(response.headers, now=response.seconds):
            raise _Refused(*faults)
        named = wait_of(response.headers, now=response.seconds)
        seconds = named.seconds if named else 0.0
        if self.waited + seconds > self._patience:
            raise Skipped(f"rate limited: the 429 asks for {seconds:.0f} s, --patience leaves {self._left:.0f} s")
        self._pause(f"rate limited: waiting {seconds:.0f} s")
        self.waited += seconds
        self._sleep(seconds)

    @property
    def _left(self) -> float:
        return max(0.0, self._patience - self.waited)


def _folded(exchanges: Iterable[str]) -> tuple[str, ...]:
    """Equal exchanges in a row as one text: ``"GET /a 404 (71 times)"``."""
    runs = [(exchange, sum(1 for _ in run)) for exchange, run in groupby(exchanges)]
    return tuple(exchange if count == 1 else f"{exchange} ({count} times)" for exchange, count in runs)
