"""Reading of a response in the flow of a call: its head, and the part of its body that a decision needs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from flexmw.contract import Wait
from flexmw.errors import ConfigError
from flexmw.kit.client_call import has_direct_client, is_streamed
from flexmw.kit.effects import Discard, Effect, Read, Request, Response
from flexmw.kit.evidence import is_transport_error
from flexmw.kit.transport import DRAIN_SECONDS, is_shared
from flexmw.retry.guarded import GuardedAttempts
from flexmw.retry.memory import GivenBack
from flexmw.retry.response import (
    MAX_BODY_BYTES,
    Head,
    decoded,
    has_whole_body_soon,
    is_out_of_quota,
    media_type_of,
    wait_in_body,
)

__all__ = ["ResponseReading"]

CLASSIFY_SECONDS: Final = 5.0
"""Longest time to read the beginning of a body for ``classify``. The time is checked after each chunk."""


class ResponseReading(GuardedAttempts):
    """A call that reads its responses."""

    beginning: bytes = b""
    """The beginning of the last response's body, for ``classify``."""
    broken_by: Exception | None = None
    """The error that broke the body of the last response, if the flow read that body."""

    def is_reread(self, response: Response) -> bool:
        """Return whether the response is fetched again if its body breaks: only if the caller has seen no byte of
        it."""
        return response.status_code < 400 and self.safety != "none" and not is_streamed()

    def read_head_of(self, response: Response) -> Head:
        """Read the head of a response that is not good."""
        return self.head_of(response.status_code, response.headers, self.classified)

    def read_beginning(self, response: Response, attempt: Request) -> Generator[Effect, Any, bytes]:
        """Read the beginning of a body for ``classify``: of an error body, and of a small good JSON body.

        An error that breaks an error body is kept in ``broken_by``: the head alone may lead to another attempt.
        """
        headers, status, media_type = response.headers, response.status_code, media_type_of(response.headers)
        is_small_json = has_whole_body_soon(headers) and "json" in media_type
        if not (status >= 400 or is_small_json) or media_type == "text/event-stream":
            return b""
        seconds = min(CLASSIFY_SECONDS, max(0.0, self.remaining()) / 2)
        try:
            # Reading an error body that stays silent is given up. The caller decides how long to wait for a good one.
            request = attempt if status >= 400 else None
            body: bytes | None = yield Read(response, MAX_BODY_BYTES, seconds, partial=True, request=request)
        except Exception as error:
            if status < 400 or not is_transport_error(error):
                raise
            self.broken_by = error
            return b""
        return decoded(body or b"", headers.get("content-encoding", ""))

    def call_classify(self, response: Response, classify: Callable[[Any, bytes], object]) -> Any:
        """Call ``classify`` with a response."""
        event: Any = classify(response, self.beginning)
        if event not in (None, "refused", "ambiguous", "answered"):
            expected = "a function that returns 'refused', 'ambiguous', 'answered' or None"
            raise ConfigError("Retry(classify=...)", event, expected)
        return event

    def read_refusal(
        self, response: Response, attempt: Request, wait: Wait | None
    ) -> Generator[Effect, Any, tuple[bool, Wait | None]]:
        """Read the body of a refusal.

        An error that breaks the body is kept in ``broken_by``: the head alone decides then.

        :returns: whether a 429 says that the quota is used up, so that no wait helps; and the wait that the head or the
            body names.
        """
        if is_shared(response):
            return False, wait
        headers, seconds = response.headers, min(DRAIN_SECONDS, max(0.0, self.remaining()) / 2)
        try:
            body: bytes | None = yield Read(response, MAX_BODY_BYTES, seconds, request=attempt)
        except Exception as error:
            if not is_transport_error(error):
                raise
            self.broken_by = error
            return False, wait
        plain, media_type = decoded(body or b"", headers.get("content-encoding", "")), media_type_of(headers)
        if response.status_code == 429 and is_out_of_quota(plain, media_type):
            return True, wait
        return False, wait or wait_in_body(plain, media_type)

    @property
    def may_be_repeated(self) -> bool:
        """Whether something above Retry that does not obey ``x-should-retry`` may repeat the request: an SDK that
        counts its repetitions on the stack, a transport between the client and Retry, or a client with a method of its
        own that sends requests."""
        return not self.safe and (self.is_counted_on_stack or not has_direct_client())

    def keep_response(self, response: Response) -> Generator[Effect, Any, None]:
        """Keep a response for the repetition of a request that may have been executed.

        A body that takes long is left to the caller. An end in the middle of a wait, which ``Read`` has with a request,
        turned a 500 with a slow body into a ``ReadTimeout``.
        """
        body: bytes | None = None
        if self.broken_by is None:
            try:
                body = yield Read(response, MAX_BODY_BYTES, DRAIN_SECONDS)
            except Exception as error:
                if not is_transport_error(error):
                    raise
                self.broken_by = error
        self.kept = GivenBack(response.status_code, tuple(response.headers.items()), body)
        if self.is_counted_on_stack:
            self.memory.remember_lost(self.fingerprint(), self.kept, self.clock.monotonic())

    def give_up(self, response: Response, attempt: Request, delay: float) -> Discard:
        # A body of several chunks may take twice the read timeout: half of the time that is left is safe.
        seconds = min(DRAIN_SECONDS, max(0.0, self.remaining() - delay) / 2)
        if not is_shared(response):
            _hurry(attempt, seconds)
        return Discard(response, seconds)


def _hurry(attempt: Request, seconds: float) -> None:
    """Shorten the read timeout for the rest of a response that is discarded."""
    timeout = attempt.extensions["timeout"]
    timeout["read"] = min(timeout.get("read") or DRAIN_SECONDS, max(0.001, seconds))
