"""Retry: its options, and the flow of a call.

>>> policy = Retry(attempts=5, deadline=30.0)
>>> policy.for_call({"flexmw.retry": {"attempts": 2}}).attempts
2
>>> policy.for_call({"flexmw.retry": None}) is None
True
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Literal, Self, cast
from urllib.parse import urlsplit

from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request, Response, Send
from flexmw.kit.factory import ClientMiddleware
from flexmw.kit.first_send import Begin
from flexmw.kit.options import Rule, check, flag, function, one_of, option, optional, seconds, several, whole
from flexmw.retry.budget import Budget
from flexmw.retry.core import Outcome, Refused503
from flexmw.retry.first_attempt import OrdinaryCalls
from flexmw.retry.flow import RetryCall
from flexmw.retry.memory import Memory
from flexmw.retry.option_names import check_names, explain_names
from flexmw.retry.options import EXTENSION, OVERRIDES, UNSET

__all__ = ["EXTENSION", "Retry"]


def _is_origin(value: object) -> bool:
    """Return whether the value has the spelling of ``RetryCall.origin``. Any other spelling would never match."""
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
        usual = parts.port == {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return False
    # The client libraries decode "xn--", and send nothing to a pattern of hosts.
    is_pattern = "*" in value or any(label.startswith("xn--") for label in parts.netloc.split("."))
    if parts.scheme not in ("http", "https") or is_pattern or value.split() != [value]:
        return False
    written = f"{parts.scheme}://{parts.netloc.rpartition('@')[2].rstrip(':').lower()}"
    return bool(parts.hostname) and value == written and not usual


_origin = Rule(
    "an origin such as 'https://api.example.com', in lower case, without a path, without a slash at its end, "
    "without a wildcard, in Unicode in place of 'xn--', with its port where that is not the usual one",
    _is_origin,
)
_plain_function = Rule(
    "a plain function, not an async one",
    lambda value: callable(value) and not iscoroutinefunction(value),
)
_resume = Rule(
    "a whole number, 0 to 100, or 'replay'",
    lambda value: value == "replay" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100),
)
_share = Rule("a number from 0 to 10", lambda value: isinstance(value, (int, float)) and 0 <= value <= 10)
_rate = Rule("a number, at least 0", lambda value: isinstance(value, (int, float)) and value >= 0)


@dataclass(frozen=True, kw_only=True)
class Retry(ClientMiddleware):
    """Send a failed request again where that provably does no harm. Give any other failure back, with its outcome.

    :param attempts: How often a request is sent at most, the first time included. Requests that wait for an execution
        under an honoured key do not count, nor do those that continue a body that was cut. Value: a whole number, 1 to
        100 (attempts). Default: ``3``.
    :param deadline: Longest duration of the whole call: redirects, authentication steps, waits, attempts and the body
        of the response. With ``None``, no further attempt begins more than 90 seconds after the first one has failed
        (or ``max_retry_after``, where that is longer), and every attempt keeps the client's own timeouts, so that
        wrapping a client never cuts off a long response. Value: a number of seconds above 0, or None. Default:
        ``None``.
    :param max_retry_after: Longest wait that a server may ask for. When it asks for more, its response goes back to the
        caller with the real value. Value: a number of seconds, at least 0. Default: ``60.0``.
    :param jitter: Largest random addition to a wait that a server asked for, so that clients do not return all at once.
        Without such a wait, the delay is exponential backoff with full jitter, from half a second to eight. Value: a
        number of seconds, at least 0. Default: ``0.5``.
    :param idempotent: Your promise that executing a request twice does no harm. Retry then repeats POST and PATCH as if
        the server honoured a key. Default: ``False``.
    :param auto_key: Put an ``Idempotency-Key`` on POST and PATCH where the server is known to honour keys. Default:
        ``False``.
    :param key_origins: Origins that honour ``Idempotency-Key``. Retry learns others from the ``Idempotency-Key-TTL`` of
        their responses, for that method and path. A key that no server honours makes no repetition safe. Value: a list,
        each an origin such as 'https://api.example.com', in lower case, without a path, without a slash at its end,
        without a wildcard, in Unicode in place of 'xn--', with its port where that is not the usual one. Default:
        ``()``.
    :param budget_ratio: Share of the calls made through this object that may be retries, in addition to
        ``budget_per_second``. Value: a number from 0 to 10 (retries per call). Default: ``0.2``.
    :param budget_per_second: Rate of retries that is always allowed, in addition to ``budget_ratio``. Value: a number,
        at least 0 (retries per second). Default: ``10.0``.
    :param refused_503: Which 503 and 529 with ``Retry-After`` count as a refusal to a POST or PATCH that nothing makes
        safe to repeat: one with a JSON body, any, or none. A proxy may answer so for an origin whose response it has
        lost. With ``x-should-retry: true`` each of them counts. Value: one of 'json', 'any', 'never'. Default:
        ``"json"``.
    :param classify: Your function of a response and the decoded beginning of its body, at most 64 KiB. It says what the
        response means: ``'refused'``, ``'ambiguous'``, ``'answered'``, or ``None`` for the table. Value: a function, or
        None. Default: ``None``.
    :param on_retry: Your function, called as ``on_retry(outcome, delay, reason)`` before each further attempt: the
        outcome so far, the seconds until the attempt, and the status or the error class that led to it. What it raises
        ends the call. Value: a plain function, not an async one, or None. Default: ``None``.
    :param reread: Fetch a response again whose body breaks while it is read whole: for safe methods, honoured keys and
        ``idempotent`` calls, within ``attempts`` and ``deadline``. A response that the caller streams is never fetched
        again, and one that is read whole is held in memory before the caller sees its head. Default: ``False``.
    :param resume: How often Retry tries to continue the body of a response under an idempotency key that was cut,
        without a new byte in between. It does so where the server sends ``Idempotent-Stream``, and where it has
        announced ``Idempotency-Key-TTL``: such a server replays, and the bytes that the caller has are compared and
        skipped. ``'replay'`` does the latter for ``key_origins`` too, with five attempts. ``0`` switches it off. Value:
        a whole number, 0 to 100, or 'replay' (attempts without progress). Default: ``5``.
    :param resume_patience: Longest time without a new byte that Retry spends on continuing a body. Value: a number of
        seconds above 0. Default: ``60.0``.

    One Retry object has one budget, and remembers which origins honour keys. Clients that use the same object share
    both.
    """

    name: ClassVar[str] = "retry"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(alone=True)

    attempts: int = option(
        3,
        whole(least=1, most=100),
        doc="How often a request is sent at most, the first time included. Requests that wait for an execution under "
        "an honoured key do not count, nor do those that continue a body that was cut.",
        unit="attempts",
    )
    deadline: float | None = option(
        None,
        optional(seconds(above=0)),
        doc="Longest duration of the whole call: redirects, authentication steps, waits, attempts and the body of the "
        "response. With `None`, no further attempt begins more than 90 seconds after the first one has failed (or "
        "`max_retry_after`, where that is longer), and every attempt keeps the client's own timeouts, so that wrapping "
        "a client never cuts off a long response.",
        unit="seconds",
    )
    max_retry_after: float = option(
        60.0,
        seconds(),
        doc="Longest wait that a server may ask for. When it asks for more, its response goes back to the caller with "
        "the real value.",
        unit="seconds",
    )
    jitter: float = option(
        0.5,
        seconds(),
        doc="Largest random addition to a wait that a server asked for, so that clients do not return all at once. "
        "Without such a wait, the delay is exponential backoff with full jitter, from half a second to eight.",
        unit="seconds",
    )
    idempotent: bool = option(
        False,
        flag,
        doc="Your promise that executing a request twice does no harm. Retry then repeats POST and PATCH as if the "
        "server honoured a key.",
    )
    auto_key: bool = option(
        False,
        flag,
        doc="Put an `Idempotency-Key` on POST and PATCH where the server is known to honour keys.",
    )
    key_origins: tuple[str, ...] = option(
        (),
        several(_origin),
        doc="Origins that honour `Idempotency-Key`. Retry learns others from the `Idempotency-Key-TTL` of their "
        "responses, for that method and path. A key that no server honours makes no repetition safe.",
    )
    budget_ratio: float = option(
        0.2,
        _share,
        doc="Share of the calls made through this object that may be retries, in addition to `budget_per_second`.",
        unit="retries per call",
    )
    budget_per_second: float = option(
        10.0,
        _rate,
        doc="Rate of retries that is always allowed, in addition to `budget_ratio`.",
        unit="retries per second",
    )
    refused_503: Refused503 = option(
        "json",
        one_of(("json", "any", "never")),
        doc="Which 503 and 529 with `Retry-After` count as a refusal to a POST or PATCH that nothing makes safe to "
        "repeat: one with a JSON body, any, or none. A proxy may answer so for an origin whose response it has lost. "
        "With `x-should-retry: true` each of them counts.",
    )
    classify: Callable[[Any, bytes], object] | None = option(
        None,
        optional(function),
        doc="Your function of a response and the decoded beginning of its body, at most 64 KiB. It says what the "
        "response means: `'refused'`, `'ambiguous'`, `'answered'`, or `None` for the table.",
    )
    on_retry: Callable[[Outcome, float, str], object] | None = option(
        None,
        optional(_plain_function),
        doc="Your function, called as `on_retry(outcome, delay, reason)` before each further attempt: the outcome so "
        "far, the seconds until the attempt, and the status or the error class that led to it. What it raises ends the "
        "call.",
    )
    reread: bool = option(
        False,
        flag,
        doc="Fetch a response again whose body breaks while it is read whole: for safe methods, honoured keys and "
        "`idempotent` calls, within `attempts` and `deadline`. A response that the caller streams is never fetched "
        "again, and one that is read whole is held in memory before the caller sees its head.",
    )
    resume: int | Literal["replay"] = option(
        5,
        _resume,
        doc="How often Retry tries to continue the body of a response under an idempotency key that was cut, without a "
        "new byte in between. It does so where the server sends `Idempotent-Stream`, and where it has announced "
        "`Idempotency-Key-TTL`: such a server replays, and the bytes that the caller has are compared and skipped. "
        "`'replay'` does the latter for `key_origins` too, with five attempts. `0` switches it off.",
        unit="attempts without progress",
    )
    resume_patience: float = option(
        60.0,
        seconds(above=0),
        doc="Longest time without a new byte that Retry spends on continuing a body.",
        unit="seconds",
    )
    clock: Clock = option(SYSTEM, hidden=True)
    random: Callable[[], float] = option(random.random, function, hidden=True)
    _budget: Budget = field(default_factory=Budget, init=False, repr=False, compare=False)
    _memory: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self)
        if self.resume == "replay" and not self.key_origins:
            expected = "key_origins=[...] beside it: it has an effect on declared origins alone"
            raise ConfigError("Retry(resume=...)", self.resume, expected)
        if self.resume == 0 and self.resume_patience != type(self).resume_patience:
            raise ConfigError(
                "Retry(resume_patience=...)", self.resume_patience, "nothing: it has no effect with resume=0"
            )

    def flow(self, request: Request) -> Flow:
        """Return the flow of one call.

        :raises ConfigError: the request's ``flexmw.retry`` extension cannot be used.
        """
        extensions = request.extensions
        policy = self.for_call(extensions) if EXTENSION in extensions or OVERRIDES.get() is not UNSET else self
        return _once(request) if policy is None else RetryCall(policy, self._budget, self._memory, request).flow()

    @property
    def _begin(self) -> Begin | None:
        """A function that begins an ordinary call by its first attempt, and returns ``None`` for any other call.

        It is ``None`` if an option needs the flow for every call. See :mod:`flexmw.kit.first_send`.
        """
        if self.deadline is not None or self.auto_key or self.classify is not None or self.reread:
            return None
        return OrdinaryCalls(self, self._budget, self._memory, self._call).begin

    def _call(self, request: Request) -> RetryCall:
        return RetryCall(self, self._budget, self._memory, request)

    def for_call(self, extensions: Mapping[str, Any]) -> Self | None:
        """Return the policy of one call: the policy in the extension of the request, else that of ``retry_options``,
        else this policy.

        :returns: ``None`` if Retry is off for the call.
        """
        chosen = extensions.get(EXTENSION, UNSET)
        if chosen is UNSET:
            chosen = OVERRIDES.get()
        if chosen is UNSET:
            return self
        if chosen is None or isinstance(chosen, type(self)):
            return chosen
        if isinstance(chosen, Mapping):
            return replace(self, **check_names(type(self), cast("Mapping[str, Any]", chosen)))
        raise ConfigError(f"extensions[{EXTENSION!r}]", chosen, "a flexmw.Retry, a mapping of its options, or None")

    def __getstate__(self) -> dict[str, Any]:
        state = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        if self.clock is SYSTEM:
            del state["clock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(type(self)(**state)))


Retry.__init__ = explain_names(Retry.__init__)  # type: ignore[method-assign]


def _once(request: Request) -> Flow:
    response: Response = yield Send(request)
    return response
