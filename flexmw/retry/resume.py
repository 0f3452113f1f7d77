"""Resumption: a flow that continues the body of a response whose connection was cut.

``docs/streams.md`` specifies the protocol. If the server keeps the response of a running execution, the flow requests
the missing bytes. If the server only replays, the flow requests the whole response, whose beginning must be the same.
"""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from typing import Any, Final, NoReturn

from flexmw.contract import Wait
from flexmw.contract.codings import decode
from flexmw.contract.idempotent_stream import (
    STREAM,
    StreamPosition,
    ends_in_blank_line,
    ends_whole,
    format_stream,
    parse_stream,
)
from flexmw.kit.deadline import library_error
from flexmw.kit.effects import Discard, Effect, Emit, Flow, Read, Replace, Request, Response, Send, Skip, Sleep
from flexmw.kit.evidence import Evidence, is_transport_error
from flexmw.kit.transport import DRAIN_SECONDS, ClientClosed
from flexmw.retry.attempts import Attempts
from flexmw.retry.causes import class_names
from flexmw.retry.continuation import (
    Loss,
    Verdict,
    code_of,
    from_an_event,
    judge_position,
    judge_refusal,
    step_delay,
)
from flexmw.retry.core import judge
from flexmw.retry.log import LOGGER, log_cut, log_resumed, log_stop
from flexmw.retry.response import MAX_BODY_BYTES, media_type_of, read_head

__all__ = ["EXTENSION", "REPLAY_ATTEMPTS", "Resumption", "StreamReport", "resumption_of"]

EXTENSION: Final = "flexmw.stream"
"""The response extension with the :class:`StreamReport` of a body that is continued where it breaks."""

REPLAY_ATTEMPTS: Final = 5
"""Attempts without progress with ``resume="replay"``."""

_NO_CUT: Final = frozenset({"StreamConsumed", "UnsupportedProtocol", "PoolTimeout", "ConnectTimeout", "RuntimeError"})


class StreamReport:
    """Progress of one response's body, up to date while the caller reads the body.

    :ivar resumed: how often the body continued after a cut.
    :ivar bytes: the number of bytes of the body so far, before they are decoded.
    :ivar silent: the total time without a byte because of cuts, in seconds.
    """

    __slots__ = ("bytes", "resumed", "silent")

    def __init__(self) -> None:
        self.resumed = self.bytes = 0
        self.silent = 0.0

    def __repr__(self) -> str:
        return f"StreamReport(resumed={self.resumed}, bytes={self.bytes}, silent={self.silent:.3f})"


def resumption_of(call: Attempts, response: Response) -> Resumption | None:
    """Return the resumption of a response; ``None`` if its body cannot be continued.

    It can be continued in three cases: the server sends ``Idempotent-Stream``; the server has announced that it honours
    keys, so that it replays the response; the user has declared that it honours keys, and sets ``resume="replay"``.
    """
    if not call.may_resume or response.status_code >= 300:
        return None
    position = _position_of(response)
    if position is not None and position.start is None:
        return Resumption(call, response, position.generation)
    if call.safety != "idempotency_key":
        return None
    learned = call.memory.honours(call.place, now=call.clock.monotonic())
    replays = learned or (call.options.resume == "replay" and call.declared)
    return Resumption(call, response, None) if replays else None


class Resumption:
    """Continues the body of one response.

    :param generation: the name of the response that the server keeps; ``None`` for a server that only replays.
    """

    def __init__(self, call: Attempts, response: Response, generation: str | None) -> None:
        self.report = StreamReport()
        self._call = call
        self._generation = generation
        self._status = response.status_code
        self._has_length = "content-length" in response.headers
        self._is_event_stream = media_type_of(response.headers) == "text/event-stream"
        self._previous = self._last = b""
        """The last two chunks, which show how the body ends."""
        self._hash = sha256()
        self._update = self._hash.update
        self._silent_since: float | None = None
        self._progress = -1
        """The number of bytes of the body when the count of attempts began at 0."""
        self._attempts = self._tries = self._timeouts = 0
        self._patience_ends = 0.0
        self._asked_at = -1
        """The number of bytes of the body when the server last accepted a continuation."""
        self._empty = 0
        """The number of successive continuations that ended cleanly without a byte."""

    def tap(self, chunk: bytes) -> None:
        """Count and hash a chunk that the caller reads. Only the last two chunks are kept."""
        self.report.bytes += len(chunk)
        self._update(chunk)
        self._previous, self._last = self._last, chunk
        if self._silent_since is not None:
            self.report.silent += self._call.clock.monotonic() - self._silent_since
            self._silent_since = None

    def again(self, error: Exception | None) -> Flow | None:
        """Return the flow that continues the body; ``None`` if the end of the body stands.

        :param error: the error that broke the body; ``None`` at a clean end.
        """
        if error is None:
            if self._ends_well():
                return None
            message = f"the stream ended after {self.report.bytes} bytes, and its end was not confirmed"
            return self._continue(library_error(self._call.request, "RemoteProtocolError", message), clean=True)
        if not is_transport_error(error) or not class_names(error).isdisjoint(_NO_CUT):
            return None
        return self._continue(error)

    def _ends_well(self) -> bool:
        """Return whether a clean end is certainly the end: most reverse proxies end a cut body cleanly."""
        if self._has_length:
            return True
        if self._asked_at == self.report.bytes:
            # After an execution has ended, the response has a length. A continuation without a length may have been
            # cut too. Two empty ones in a row were not: if the execution had died, the server would refuse the second.
            self._empty += 1
            if self._empty > 1 or self._generation is None:
                return True
        if not self._is_event_stream:
            return self._generation is None
        if self._generation is None:
            return self.report.bytes == 0 or self._ends_in_event()
        tail = self._previous + self._last
        return ends_whole(tail if len(tail) == self.report.bytes else from_an_event(tail))

    def _ends_in_event(self) -> bool:
        return not self._is_event_stream or ends_in_blank_line(self._previous[-3:] + self._last[-3:])

    def _continue(self, error: Exception, *, clean: bool = False) -> Flow:
        call, report, began = self._call, self.report, self._call.clock.monotonic()
        if report.bytes > self._progress:
            self._progress = report.bytes
            self._attempts = self._tries = self._timeouts = self._empty = 0
            self._patience_ends = began + call.options.resume_patience
        if self._silent_since is None:
            self._silent_since = began
        failure = type(error).__name__
        if not clean:
            yield self._cut(failure)
        call.continues = self._generation is not None
        call.may_have_run = True
        self._timeouts += failure == "ReadTimeout"
        if self._timeouts > 1:
            yield from self._lose(error, "resume_exhausted", "the server was silent twice")
        wait: Wait | None = None
        while True:
            delay = 0.0 if clean and not self._tries else step_delay(self._tries, call.options.random())
            if wait is not None:
                delay = max(delay, wait.seconds + call.options.jitter * call.options.random())
            if (problem := self._exhausted(delay, wait)) is not None:
                yield from self._lose(error, "resume_exhausted", problem)
            response, problem = yield from self._ask(delay)
            if problem is not None:
                yield from self._lose(error, "resume_exhausted", problem)
            if response is None:
                wait = None
                continue
            verdict, wait = yield from self._judge(response)
            if verdict == "continues":
                break
            if verdict == "come_back":
                continue
            if verdict == "stream_too_large" and clean and self._ends_in_event():
                LOGGER.info(
                    "%s %s: the end of the stream is not confirmed: it came in order, but the server has not kept the "
                    "stream, and cannot say that nothing follows",
                    call.request.method,
                    call.origin,
                )
                self._has_length, self._silent_since = True, None
                yield Replace(response, b"")
                return response
            yield Discard(response)
            yield from self._lose(error, verdict, f"status {response.status_code}")
        self._asked_at = report.bytes
        self._has_length = "content-length" in response.headers
        if clean:
            if response.headers.get("content-length") == "0":
                LOGGER.debug("%s %s: the end of the stream is confirmed", call.request.method, call.origin)
                return response
            yield self._cut(failure)
        report.resumed += 1
        gap = call.clock.monotonic() - began
        log_resumed(call.request.method, call.origin, attempt=call.sent, offset=report.bytes, gap=gap)
        yield Emit("flexmw.stream.resumed", {"attempt": call.sent, "offset": report.bytes, "gap": gap})
        return response

    def _cut(self, failure: str) -> Emit:
        log_cut(self._call.request.method, self._call.origin, failure, received=self.report.bytes)
        return Emit("flexmw.stream.cut", {"error_type": failure, "offset": self.report.bytes})

    def _exhausted(self, delay: float, wait: Wait | None) -> str | None:
        """Return the reason why no further request is made after ``delay`` seconds; ``None`` if one is made."""
        call, options = self._call, self._call.options
        limit = REPLAY_ATTEMPTS if options.resume == "replay" else options.resume
        moment = call.clock.monotonic() + delay
        if self._attempts >= limit:
            return f"{limit} attempts without progress"
        if wait is not None and wait.seconds > options.max_retry_after:
            return "the server asks for a longer wait than max_retry_after"
        if moment >= self._patience_ends:
            return "resume_patience is over"
        if call.ends is not None and moment >= call.ends:
            return "the deadline is over"
        if not call.continues and call.is_forgotten(moment):
            return "the server may have forgotten the key"
        # The first request after progress takes nothing from the budget, and neither does one after a named wait.
        now = moment - delay
        if self._tries and wait is None and not call.budget.withdraw(options.budget_per_second, now):
            return "the retry budget is empty"
        return None

    def _ask(self, delay: float) -> Generator[Effect, Any, tuple[Response | None, str | None]]:
        """Wait, and send a request for the rest of the body.

        :returns: the response, or ``None`` if none came; and the reason why no other request is made, or ``None``.
        """
        call = self._call
        self._tries += 1
        self._attempts += 1
        try:
            yield Sleep(delay)
            call.sent += 1
            if call.rewind is not None:
                call.rewind()
            attempt: Request = call.attempt()
            if self._generation is not None:
                attempt.headers[STREAM] = format_stream(self._generation, self.report.bytes)
            response: Response = yield Send(attempt, Evidence(call.leaves).observe)
        except ClientClosed:
            return None, "the client was closed"
        except Exception as failed:
            if not is_transport_error(failed):
                raise
            LOGGER.debug("%s %s: no continuation: %s", call.request.method, call.origin, type(failed).__name__)
            self._timeouts += type(failed).__name__ == "ReadTimeout"
            return None, "the server was silent twice" if self._timeouts > 1 else None
        return response, None

    def _judge(self, response: Response) -> Generator[Effect, Any, tuple[Verdict, Wait | None]]:
        """Judge the response to a request for the rest. Returns the verdict, and the wait that the response names."""
        call, size = self._call, self.report.bytes
        if response.status_code < 300:
            digest = self._hash.digest()
            if response.status_code != self._status:
                return "stream_differs", None
            verdict = judge_position(_position_of(response), generation=self._generation, start=size, digest=digest)
            if verdict != "replays":
                return verdict, None
            copy = sha256()
            try:
                skipped: int = yield Skip(response, size, copy.update)
            except Exception as failed:
                if not is_transport_error(failed):
                    raise
                return "come_back", None
            return "continues" if skipped == size and copy.digest() == digest else "stream_differs", None
        head = read_head(response.status_code, response.headers, now=call.clock.now())
        refusal = judge_refusal(
            response.status_code,
            code=(yield from self._code(response)),
            names_wait=head.wait is not None,
            asked=head.asked,
        )
        if refusal == "come_back":
            self._attempts -= 1
            yield Discard(response)
        return refusal, head.wait

    def _code(self, response: Response) -> Generator[Effect, Any, str | None]:
        """Return the code of a refusal; ``None`` if its body has none or does not arrive."""
        try:
            body: bytes | None = yield Read(response, MAX_BODY_BYTES, DRAIN_SECONDS)
        except Exception as failed:
            if not is_transport_error(failed):
                raise
            return None
        plain = decode(body or b"", response.headers.get("content-encoding", ""), limit=MAX_BODY_BYTES)
        return None if plain is None else code_of(plain.data)

    def _lose(self, error: Exception, reason: Loss, detail: str) -> Generator[Effect, Any, NoReturn]:
        """Stop continuing the body: raise the error that broke it, with the outcome of the call."""
        call, received = self._call, self.report.bytes
        if self._silent_since is not None:
            self.report.silent += call.clock.monotonic() - self._silent_since
            self._silent_since = None
        outcome = call.mark_lost(error, judge("ambiguous", call.safety), reason, received=received)
        log_stop(call.request.method, call.origin, outcome, kind=f"{type(error).__name__} ({detail})")
        details = {"reason": reason, "error_type": type(error).__name__, "offset": received}
        yield Emit("flexmw.stream.lost", details)
        raise error


def _position_of(response: Response) -> StreamPosition | None:
    """Return the position in a stream that a response states; ``None`` if it states none, or an invalid one."""
    headers: Any = response.headers
    if STREAM not in headers:
        return None
    try:
        return parse_stream(headers.get_list(STREAM))
    except ValueError as problem:
        LOGGER.debug("a header Idempotent-Stream of a response is ignored: %s", problem)
        return None
