"""Flow of one paced call: wait for a turn, send the request, record the limit that the response reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from math import inf
from typing import Any, Final

from flexmw.contract import wait_of
from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.effects import DEADLINE, Effect, Emit, Flow, Request, Response, RunBlocking, Send, Sleep
from flexmw.kit.events import PaceWaited
from flexmw.kit.evidence import Evidence
from flexmw.pace.buckets import RequestClass, bucket_name, classify, from_key
from flexmw.pace.core import InFlight, PaceState
from flexmw.pace.headers import is_from_cache, server_time
from flexmw.pace.redis import SharedState
from flexmw.pace.registry import KnownRoot, PaceRegistry, caller_of, state_key
from flexmw.pace.shared_turn import SharedTurn, Turn, emit_operations
from flexmw.pace.window import POLL

__all__ = ["PacedCall"]

_REFUSALS: Final = (429, 503)
_LOGGED_SECONDS: Final = 1.0
"""Longer waits are logged."""

_FOREIGN_RESET: Final = 1e-9
"""Stands for a wait: the request would have to wait for the reset of a bucket that may not be its bucket."""

_UNLIMITED: Final = "unlimited"
"""Stands for the name of a bucket: the response reports no limit, and its class has no bucket."""

_log: Final = logging.getLogger("flexmw.pace")


class PacedCall:
    """One call of one request.

    :param max_wait: seconds; if a limit frees up later than that, the request is sent without waiting.
    :param key: the function that names the bucket of a request; ``None``: see :mod:`flexmw.pace.buckets`.
    """

    __slots__ = (
        "_caller",
        "_class",
        "_clock",
        "_is_known",
        "_known",
        "_max_wait",
        "_probed_root",
        "_registry",
        "_request",
        "_source",
    )

    def __init__(
        self,
        request: Request,
        registry: PaceRegistry,
        *,
        max_wait: float,
        clock: Clock,
        key: Callable[[Any], str] | None = None,
    ) -> None:
        self._request, self._registry = request, registry
        self._max_wait, self._clock = max_wait, clock
        self._caller = caller_of(request)
        self._class = _class_of(request, key)
        self._known = registry.known_class(self._caller, self._class.key)
        self._is_known = False
        self._probed_root: KnownRoot | None = None
        self._source = ""  # key of the bucket in which the request has taken its turn

    def run(self) -> Flow:
        """Wait for a turn, send the request, record the response or the failure."""
        flight = yield from self._wait_for_turn()
        self._is_known = self._known.bucket_key is not None
        uncounted = 0 if self._is_known else 1
        self._registry.count(self._known, uncounted)
        evidence = Evidence()
        sent_at = self._clock.now()
        try:
            response: Response = yield Send(self._request, evidence.observe)
        except BaseException:
            self._registry.count(self._known, -uncounted)
            self._end_probe()
            self._fail(flight, unsent=evidence.sent is False)
            raise
        self._registry.count(self._known, -uncounted)
        if is_from_cache(response.headers, response.extensions):
            self._fail(flight, unsent=True)  # the server has not seen the request
        else:
            yield from self._finish(flight, response, sent_at)
        self._end_probe()
        return response

    def _wait_for_turn(self) -> Generator[Effect, Any, InFlight]:
        max_wait = self._max_wait
        while True:
            wait, flight = yield from self._enter_any(max_wait)
            if flight is not None:
                return flight
            max_wait = min(max_wait, self._request.extensions.get(DEADLINE, inf) - self._clock.monotonic())
            if wait <= max_wait:
                if wait > _LOGGED_SECONDS:
                    _log.info("a request waits %.1f seconds for its turn in bucket %r", wait, self._bucket_label())
                yield Sleep(wait)
                waited: PaceWaited = {"seconds": wait, "reason": self._reason()}
                yield Emit("flexmw.pace.waited", waited)

    def _enter_any(self, max_wait: float) -> Generator[Effect, Any, Turn]:
        """Ask for a turn in the bucket of the class.

        If that bucket is unknown, ask in the bucket of the paths with the same root, else in the caller's first bucket.
        If the request would have to wait there for a reset, ask in a bucket of the class alone instead. Only if two
        classes with the same root have shown that they share a bucket, the request waits for the reset of that bucket.
        """
        bucket_key, root = self._known.bucket_key, None
        if bucket_key is None and self._class.root:
            root = self._registry.known_root(self._caller, self._class.root)
            bucket_key = root.bucket_key
        if bucket_key is not None and (root is None or root.is_proven):
            self._source = bucket_key
            return (yield from self._enter(max_wait))
        self._source = bucket_key or ""
        turn = yield from self._enter(max_wait, is_foreign=True)
        if turn[0] == _FOREIGN_RESET:
            if root is not None and not root.is_divided:
                if not self._registry.start_probe(root) and max_wait >= POLL:
                    return POLL, None
                self._probed_root = root
            self._source = self._class.key
            turn = yield from self._enter(max_wait)
        return turn

    def _enter(self, max_wait: float, *, is_foreign: bool = False) -> Generator[Effect, Any, Turn]:
        def enter(state: PaceState, now: float) -> Turn:
            if is_foreign and self._class.digest not in state.members and state.must_wait_for_reset(now):
                return _FOREIGN_RESET, None
            wait = state.wait(now)
            return (wait, None) if 0 < wait <= max_wait else (0.0, state.start(now))

        if self._registry.is_shared:
            shared = self._shared(self._source)
            if not is_foreign and (wait := shared.known_wait) and wait <= max_wait:
                return wait, None
            entry = SharedTurn(shared, enter)
            try:
                turn: Turn = yield RunBlocking(entry.run)
            except BaseException:
                entry.abandon()
                raise
            yield from emit_operations(shared)
            return turn
        state, lock = self._registry.local(state_key(self._caller, self._source))
        with lock:
            return enter(state, self._clock.monotonic())

    def _finish(self, flight: InFlight, response: Response, sent_at: float) -> Generator[Effect, Any, None]:
        arrived = self._clock.monotonic()
        headers = {name.lower(): value for name, value in response.headers.items()}
        received_at = self._clock.now()
        reading, retry_after = self._registry.read(self._caller, headers, sent_at, received_at), None
        if response.status_code in _REFUSALS:
            now = server_time(headers, sent_at, received_at)
            wait = wait_of(headers, now=now, status=response.status_code)
            retry_after = None if wait is None else wait.seconds
        took = received_at - sent_at
        bucket = bucket_name(headers, self._class)
        if reading is None and retry_after is None:
            self._log_no_limit()
            if not self._is_known and self._source != self._class.key:
                bucket = _UNLIMITED

        def record(state: PaceState, now: float, bucket_key: str, *, is_last: bool) -> bool:
            delay = self._clock.monotonic() - arrived  # a shared state may be changed much later
            shifted = None if reading is None else reading._replace(reset_earliest=reading.reset_earliest - delay)
            is_source = bucket_key == self._source
            if bucket is _UNLIMITED:
                accepted = is_source and not state.bucket
            else:
                is_known = self._is_known and is_source
                began = now - delay - took
                accepted = state.accepts(bucket, sent_at=began, now=now - delay, reading=reading, is_known=is_known)
            if not bucket_key and bucket is not _UNLIMITED:
                state.set_member(self._class.digest, accepted or is_last)
            if not accepted and not is_last:
                return False
            if is_source:
                state.finish(flight, now=now, reading=shifted, retry_after=retry_after)
            else:
                uncounted = None if counted_before else self._known.uncounted
                state.join(
                    sent_at=now - delay - took, now=now, uncounted=uncounted, reading=shifted, retry_after=retry_after
                )
            return True

        counted_before = self._known.bucket_key is not None and not self._is_known
        *bucket_keys, bucket_key = self._bucket_keys(bucket, None if reading is None else reading.limit)
        for candidate in bucket_keys:
            if (yield from self._change(candidate, partial(record, bucket_key=candidate, is_last=False))):
                bucket_key = candidate
                break
        else:
            yield from self._change(bucket_key, partial(record, bucket_key=bucket_key, is_last=True))
        if bucket_key != self._source:
            self._fail(flight, unsent=True)
        if bucket is not _UNLIMITED or bucket_key != self._source:
            self._learn(bucket_key, bucket)

    def _bucket_keys(self, bucket: str, limit: int | None) -> list[str]:
        """Return the keys of the buckets that the response may count against, the likeliest first. The last one accepts
        any response."""
        if bucket is _UNLIMITED:
            return [self._source, self._class.key]
        if self._is_known and limit is None and bucket == self._class.bucket:  # nothing points to another bucket
            return [self._source]
        first = [self._source] if self._is_known or self._source != self._class.key else []
        if bucket:
            further = ["", bucket]
        else:
            further = ["", self._class.key] if limit is None else ["", f"limit:{limit}", self._class.key]
        return list(dict.fromkeys([*first, *further]))

    def _learn(self, bucket_key: str, bucket: str) -> None:
        """Remember the bucket of the class, and of the classes with the same root."""
        self._known.bucket_key = bucket_key
        if self._class.root and bucket is not _UNLIMITED:
            root = self._registry.known_root(self._caller, self._class.root)
            root.is_divided = root.is_divided or bucket.startswith("bucket:")  # one root has many of these
            root.add(bucket_key, self._class.digest)

    def _change(self, bucket_key: str, change: Callable[[PaceState, float], bool]) -> Generator[Effect, Any, bool]:
        """Change the state of a bucket. Returns whether the bucket has accepted the response."""
        if self._registry.is_shared:
            shared = self._shared(bucket_key)
            accepted = False

            def keep(state: PaceState, now: float) -> None:
                nonlocal accepted
                accepted = change(state, now)

            yield RunBlocking(lambda: shared.record(keep))
            yield from emit_operations(shared)
            return accepted
        state, lock = self._registry.local(state_key(self._caller, bucket_key))
        with lock:
            return change(state, self._clock.monotonic())

    def _fail(self, flight: InFlight, *, unsent: bool) -> None:
        """Record a failure. This method yields no effect, because a cancelled or closed call cannot wait for a
        store."""

        def fail(state: PaceState, now: float) -> None:
            state.fail(flight, now=now, unsent=unsent)

        if self._registry.is_shared:
            self._shared(self._source).record_later(fail)
            return
        state, lock = self._registry.local(state_key(self._caller, self._source))
        with lock:
            fail(state, self._clock.monotonic())

    def _end_probe(self) -> None:
        if self._probed_root is not None:
            self._probed_root.probe_until = -inf

    def _shared(self, bucket_key: str) -> SharedState:
        return self._registry.shared(state_key(self._caller, bucket_key))

    def _reason(self) -> str:
        """Return the reason why the request waits for its turn."""
        return "first_response" if self._known.bucket_key is None else "limit"

    def _bucket_label(self) -> str:
        return self._source or self._class.bucket or self._class.key

    def _log_no_limit(self) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            url = self._request.url
            origin = f"{url.scheme}://{url.host}:{url.port}"
            if self._registry.is_first_report(origin):
                _log.debug("no limit headers that Pace knows, in a response of %s", origin)


def _class_of(request: Request, key: Callable[[Any], str] | None) -> RequestClass:
    """Return the class of a request.

    :raises ConfigError: the function ``key`` does not return a text.
    """
    if key is None:
        # In `_content`, httpx and httpx2 keep a body that is not a stream.
        return classify(request.url.path, getattr(request, "_content", None))
    value: object = key(request)
    if not isinstance(value, str):
        raise ConfigError("Pace(key=...)", type(value).__name__, "a function that returns a text for each request")
    return from_key(value)
