"""The options of Fallback."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import flexmw
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.options import Rule, check, documented, function, option, optional, positional, seconds, whole
from flexmw_fallback._call import FallbackCall
from flexmw_fallback._circuits import CircuitOptions, Circuits
from flexmw_fallback._memory import GivenBack
from flexmw_fallback._upstream import upstream_of

__all__ = ["Fallback"]

LOGGER = logging.getLogger("flexmw.fallback")

_PERMIT = Rule('a list, empty or ("ambiguous",)', lambda value: _are(value, lambda item: item == "ambiguous"))
_STATUSES = Rule(
    "a list of error statuses, 400 to 599",
    lambda value: _are(value, lambda item: isinstance(item, int) and not isinstance(item, bool) and 400 <= item <= 599),
)


def _are(value: object, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, Collection) and not isinstance(value, (str, bytes)) and all(test(item) for item in value)


@positional("upstreams")
@dataclass(frozen=True, kw_only=True)
class Fallback:
    """Ask another upstream where the one before has provably not executed the call, and nowhere else.

    It belongs outside ``Retry`` and inside ``Tagging``, and decides by Retry's verdict: a call that was not sent or
    that was refused goes to the next upstream at once; a response is given back; a call that may have been executed is
    given back too.

    The outcome on the response or the error is a :class:`FallbackOutcome`.

    :param upstreams: The servers, in the order in which they are asked. The client is made for the first one: requests
        below its URL are the ones that may go to another upstream. Python code gives them as positional arguments.
        Value: two or more of Upstream(...), or tables with url, headers and weight. Default: ``()``.
    :param permit: With ``("ambiguous",)`` a call that may have been executed goes to the next upstream too, before the
        head of a good response. It may then be executed twice, and billed twice; ``outcome.maybe_billed`` names the
        upstreams. Value: a list, empty or ("ambiguous",). Default: ``()``.
    :param also: Statuses by which the upstreams refuse a call, such as 402 or 529, besides those that refuse by
        themselves. You say so: a status that an upstream also sends after it has begun leads to a second execution.
        Value: a list of error statuses, 400 to 599. Default: ``()``.
    :param refusal: Your function of the status, the headers and the decoded beginning of the body (4 KiB) of an error
        response. It returns true where the response is a refusal. Value: a function, or None. Default: ``None``.
    :param preamble: Your function of one event of an event stream. It returns ``'wait'`` (hold the stream back),
        ``'commit'`` (the caller gets it) or ``'refused'`` (the next upstream). At most 64 KiB, 64 events or 5 seconds
        are held. Value: a function, or None. Default: ``None``.
    :param split_by: Your function of the request that names its caller. The calls of a caller begin at the same
        upstream each time, by the ``weight`` of the upstreams; ``None`` begins at the first one. Value: a function, or
        None. Default: ``None``.
    :param attempts_total: How often a call is sent at most, over all upstreams. ``None`` is the number of upstreams
        plus two. Value: a whole number, 1 to 100, or None (attempts). Default: ``None``.
    :param deadline: Longest duration of the whole call, with all upstreams and waits. With ``None``, the deadline of
        Retry counts from the first time that an upstream is asked. Value: a number of seconds above 0, or None.
        Default: ``None``.
    :param max_retry_after: Longest time for which an upstream cools that asks for a longer wait, and longest wait for
        an upstream while all of them are cooling. Value: a number of seconds, at least 0. Default: ``60.0``.
    :param failures: Failures in a row after which an upstream is not asked for a while: nothing was sent, a refusal
        without a wait, a lost response, a 5xx. Value: a whole number, 1 to 1000 (failures). Default: ``5``.
    :param window: Time within which these failures happen. Value: a number of seconds above 0. Default: ``30.0``.
    :param cooldown: How long such an upstream is not asked. One call then tries it; the others go elsewhere until that
        call has succeeded. Value: a number of seconds above 0. Default: ``30.0``.
    :raises flexmw.ConfigError: an option that cannot work, alone or together with another one.
    """

    name: ClassVar[str] = "flexmw.fallback"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(
        after=("tagging",), before=("contrib.breaker", "pace", "retry"), alone=True, needs=("retry",)
    )

    upstreams: tuple[Any, ...] = option(
        (),
        documented("two or more of Upstream(...), or tables with url, headers and weight"),
        doc="The servers, in the order in which they are asked. The client is made for the first one: requests below "
        "its URL are the ones that may go to another upstream. Python code gives them as positional arguments.",
    )
    permit: Collection[str] = option(
        (),
        _PERMIT,
        doc='With `("ambiguous",)` a call that may have been executed goes to the next upstream too, before the head '
        "of a good response. It may then be executed twice, and billed twice; `outcome.maybe_billed` names the "
        "upstreams.",
    )
    also: Collection[int] = option(
        (),
        _STATUSES,
        doc="Statuses by which the upstreams refuse a call, such as 402 or 529, besides those that refuse by "
        "themselves. You say so: a status that an upstream also sends after it has begun leads to a second execution.",
    )
    refusal: Callable[[int, Any, bytes], object] | None = option(
        None,
        optional(function),
        doc="Your function of the status, the headers and the decoded beginning of the body (4 KiB) of an error "
        "response. It returns true where the response is a refusal.",
    )
    preamble: Callable[[Any], object] | None = option(
        None,
        optional(function),
        doc="Your function of one event of an event stream. It returns `'wait'` (hold the stream back), `'commit'` "
        "(the caller gets it) or `'refused'` (the next upstream). At most 64 KiB, 64 events or 5 seconds are held.",
    )
    split_by: Callable[[Any], str | None] | None = option(
        None,
        optional(function),
        doc="Your function of the request that names its caller. The calls of a caller begin at the same upstream each "
        "time, by the `weight` of the upstreams; `None` begins at the first one.",
    )
    attempts_total: int | None = option(
        None,
        optional(whole(least=1, most=100)),
        doc="How often a call is sent at most, over all upstreams. `None` is the number of upstreams plus two.",
        unit="attempts",
    )
    deadline: float | None = option(
        None,
        optional(seconds(above=0)),
        doc="Longest duration of the whole call, with all upstreams and waits. With `None`, the deadline of Retry "
        "counts from the first time that an upstream is asked.",
        unit="seconds",
    )
    max_retry_after: float = option(
        60.0,
        seconds(),
        doc="Longest time for which an upstream cools that asks for a longer wait, and longest wait for an upstream "
        "while all of them are cooling.",
        unit="seconds",
    )
    failures: int = option(
        5,
        whole(least=1, most=1000),
        doc="Failures in a row after which an upstream is not asked for a while: nothing was sent, a refusal without a "
        "wait, a lost response, a 5xx.",
        unit="failures",
    )
    window: float = option(30.0, seconds(above=0), doc="Time within which these failures happen.", unit="seconds")
    cooldown: float = option(
        30.0,
        seconds(above=0),
        doc="How long such an upstream is not asked. One call then tries it; the others go elsewhere until that call "
        "has succeeded.",
        unit="seconds",
    )
    clock: Clock = option(SYSTEM, hidden=True)
    random: Callable[[], float] = option(random.random, function, hidden=True)
    circuits: Circuits = field(default_factory=Circuits, init=False, repr=False, compare=False)
    given_back: GivenBack = field(default_factory=GivenBack, init=False, repr=False, compare=False)
    warned: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """What the log has said once: origins outside the first upstream's URL, and a missing Retry."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *upstreams_: Any,
            upstreams: Sequence[Any] = (),
            permit: Collection[str] = (),
            also: Collection[int] = (),
            refusal: Callable[[int, Any, bytes], object] | None = None,
            preamble: Callable[[Any], object] | None = None,
            split_by: Callable[[Any], str | None] | None = None,
            attempts_total: int | None = None,
            deadline: float | None = None,
            max_retry_after: float = 60.0,
            failures: int = 5,
            window: float = 30.0,
            cooldown: float = 30.0,
            clock: Clock = ...,
            random: Callable[[], float] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        check(self)
        upstreams = tuple(upstream_of(given) for given in self.upstreams)
        object.__setattr__(self, "upstreams", upstreams)
        if len(upstreams) < 2:
            raise flexmw.ConfigError(
                "Fallback(*upstreams)", len(upstreams), "at least two: a call goes from one to another"
            )
        if len(set(map(id, upstreams))) < len(upstreams):
            raise flexmw.ConfigError("Fallback(*upstreams)", upstreams, "each upstream once")
        has_weights = any(upstream.weight is not None for upstream in upstreams)
        if self.split_by is not None and not has_weights:
            expected = "weight=... on the upstreams that share the callers: it has no effect without one"
            raise flexmw.ConfigError("Fallback(split_by=...)", self.split_by, expected)
        if has_weights and self.split_by is None:
            expected = "Fallback(split_by=...) beside it: it has no effect without one"
            raise flexmw.ConfigError("Upstream(weight=...)", [upstream.weight for upstream in upstreams], expected)

    @cached_property
    def max_attempts(self) -> int:
        """``attempts_total``, or its default."""
        return len(self.upstreams) + 2 if self.attempts_total is None else self.attempts_total

    @cached_property
    def circuit_options(self) -> CircuitOptions:
        """When the circuits of this object open, and for how long."""
        return CircuitOptions(self.failures, self.window, self.cooldown)

    @cached_property
    def shares(self) -> tuple[tuple[int, str, float], ...]:
        """Place, name and weight of each upstream that has a share. Upstreams of one URL are numbered."""
        urls = [upstream.url for upstream in self.upstreams]
        return tuple(
            (place, f"{upstream.url} {urls[:place].count(upstream.url)}", upstream.weight)
            for place, upstream in enumerate(self.upstreams)
            if upstream.weight is not None
        )

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        """Client side: one call.

        :raises flexmw.ConfigError: ``rewrite`` or ``headers`` of an upstream cannot be used for the request.
        """
        sent: Any = request
        path = self.upstreams[0].path_below(str(sent.url))
        return _elsewhere(self, sent) if path is None else FallbackCall(self, sent, path).flow()

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init and field.name != "clock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(type(self)(**state)))


def _elsewhere(options: Fallback, request: Any) -> flexmw.Flow:
    """A request that is not below the URL of the first upstream is sent as it is."""
    url = request.url
    origin = f"{url.scheme}://{url.host}"
    if origin not in options.warned and len(options.warned) < 100:
        options.warned.add(origin)
        LOGGER.warning(
            "requests to %s outside %s go to no other upstream: give Fallback the client's base URL first",
            origin,
            options.upstreams[0].url,
        )
    return (yield from flexmw.send(request))
