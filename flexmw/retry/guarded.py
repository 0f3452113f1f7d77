"""Keep a transport below Retry, which retries by itself, from sending a request that may have been executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexmw.contract.exception_slots import attributes_of
from flexmw.kit.deadline import library_error
from flexmw.retry.attempts import Attempts
from flexmw.retry.core import Event, judge, without_safety
from flexmw.retry.log import log_repetition
from flexmw.retry.response import Head, media_type_of, read_head

__all__ = ["GuardedAttempts"]


class GuardedAttempts(Attempts):
    """A call that keeps a transport below from repeating its request, if a repetition may do harm."""

    def head_of(self, status: int, headers: Mapping[str, str], classified: Event | None) -> Head:
        """Read the head of a response that is not good.

        :param classified: the event that the user's own function names; the table decides where it is ``None``.
        """
        head = read_head(status, headers, now=self.clock.now(), classified=classified)
        if classified is None and not head.asked and self.safety == "none":
            event = without_safety(
                head.event,
                status=status,
                media_type=media_type_of(headers),
                server=headers.get("server", "").lower(),
                trust=self.options.refused_503,
            )
            head = Head(event, head.wait, head.asked)
        return head

    def repeated_below(self, details: Mapping[str, Any]) -> None:
        """Decide whether a transport below Retry may send the request of this attempt again by itself.

        :param details: those of :data:`flexmw.kit.repetition.REPEATS`.
        :raises Exception: the server may have executed the request, and nothing makes a repetition safe.
        """
        status: int | None = details["status"]
        library_headers: Any = type(self.request.headers)
        headers = library_headers(details["headers"])
        if status is not None and self.head_of(status, headers, None).event != "ambiguous":
            return
        is_kept_back = self.safety == "none"
        lost = "its response was lost" if status is None else f"its response was a {status}"
        if self.memory.first_warning("transport"):
            log_repetition(self.request.method, self.origin, lost, is_kept_back=is_kept_back)
        if is_kept_back:
            message = f"the request may have been executed ({lost}): flexmw kept a transport from sending it again"
            error = library_error(self.request, "TransportError", message)
            attributes_of(error)["flexmw"] = self.outcome(judge("ambiguous", "none"), "unsafe_method")
            raise error
