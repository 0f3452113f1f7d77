"""Pace: its options, and the registry of states that they open.

>>> Pace(max_wait=30.0)
Pace(patience=5.0, max_wait=30.0, key=None)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from flexmw.contract.idempotent_stream import STREAM
from flexmw.kit.checking import is_checking
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request, Response, Send
from flexmw.kit.factory import ClientMiddleware
from flexmw.kit.headers import has
from flexmw.kit.options import check, documented, function, option, optional, seconds
from flexmw.kit.storage import RedisClient, parse_storage, shown_storage
from flexmw.pace.flow import PacedCall
from flexmw.pace.registry import SCHEMES, PaceRegistry

__all__ = ["Pace"]

_STREAM: Final = STREAM.encode()


@dataclass(frozen=True, kw_only=True)
class Pace(ClientMiddleware):
    """Delay requests until the server is certain to admit them, instead of collecting 429 responses.

    Pace reads the rate-limit headers of every response, in the formats of :mod:`flexmw.contract`. It keeps one state
    for each origin, credential and bucket. All clients, threads and tasks of a process share it; with ``storage``
    several processes share it. Before the first response of an origin, one request is sent and the others wait for its
    response. If the server sends no such headers, requests are not delayed after that.

    ``flexmw.pace.buckets`` explains which requests count in one bucket. A request whose bucket is known never waits for
    the reset of another one. While the bucket of a class of requests is unknown, its requests count in the bucket of
    the paths that begin with the same segment, and wait for its reset if two of these paths have shown that they share
    it. If there is no such bucket, the requests count in the first bucket of the caller. If they would have to wait for
    the reset of a bucket that may not be their bucket, one request is sent at once, and the others wait for its
    response.

    Under four conditions no request is refused, in any order and number of requests: the bucket of its class is known,
    no other client uses the credential, each request counts as one, and the server reports true numbers. Only the one
    request of an unknown class can be refused. ``flexmw.pace.window`` explains how.

    Put ``Pace`` inside ``Retry``, so that Pace delays every attempt. In the opposite order it delays the first attempt
    only, and Retry's further attempts go to the server without a delay; that order is not refused, because client
    components work in any order.

    :param patience: Longest wait for the first response while nothing is known about the limit of the server. Value: a
        number of seconds, at least 0. Default: ``5.0``.
    :param max_wait: Longest wait for the next turn. A request that could not be sent before that, or before the
        deadline of a ``Retry`` further outward, is sent at once, and the server decides. A request whose turn another
        one takes waits again: only a deadline bounds the sum. Value: a number of seconds, at least 0. Default:
        ``120.0``.
    :param storage: Where the limits that servers have reported are kept. ``memory://`` is shared by the clients,
        threads and tasks of this process; ``redis://``, ``redis+unix://``, ``redis+cluster://``, ``redis+sentinel://``
        and their TLS and ``valkey`` forms are shared by several processes, and so is a client of redis-py, whose
        settings are used for connections of flexmw's own. A store that does not respond costs a call 100 ms at most.
        Value: a storage URL, or a client of redis-py. Default: ``"memory://"``.
    :param pepper: Secret key of the hash under which the store knows a credential; the same in every process. ``None``
        takes ``FLEXMW_PEPPER`` from the environment, else a fixed label. Value: a text, bytes or None. Default:
        ``None``.
    :param key: Function of the request that returns the name of its bucket. The names decide alone; Pace reads no
        bucket from paths, bodies or headers. ``None``: by ``x-ratelimit-resource``, per model, or per path. Value: a
        function, or None. Default: ``None``.
    :raises ConfigError: for any option that cannot work; for a store that refuses the credentials or a command; from
        the call, if ``key`` returns no text.
    """

    name: ClassVar[str] = "pace"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order()

    patience: float = option(
        5.0,
        seconds(),
        doc="Longest wait for the first response while nothing is known about the limit of the server.",
        unit="seconds",
    )
    max_wait: float = option(
        120.0,
        seconds(),
        doc="Longest wait for the next turn. A request that could not be sent before that, or before the deadline of a "
        "`Retry` further outward, is sent at once, and the server decides. A request whose turn another one takes "
        "waits again: only a deadline bounds the sum.",
        unit="seconds",
    )
    storage: str | RedisClient = option(
        "memory://",
        documented("a storage URL, or a client of redis-py"),
        doc="Where the limits that servers have reported are kept. `memory://` is shared by the clients, threads and "
        "tasks of this process; `redis://`, `redis+unix://`, `redis+cluster://`, `redis+sentinel://` and their TLS and "
        "`valkey` forms are shared by several processes, and so is a client of redis-py, whose settings are used for "
        "connections of flexmw's own. A store that does not respond costs a call 100 ms at most.",
        secret=True,
        shown=shown_storage,
    )
    pepper: str | bytes | None = option(
        None,
        documented("a text, bytes or None"),
        doc="Secret key of the hash under which the store knows a credential; the same in every process. `None` takes "
        "`FLEXMW_PEPPER` from the environment, else a fixed label.",
        secret=True,
    )
    key: Callable[[Any], str] | None = option(
        None,
        optional(function),
        doc="Function of the request that returns the name of its bucket. The names decide alone; Pace reads no bucket "
        "from paths, bodies or headers. `None`: by `x-ratelimit-resource`, per model, or per path.",
    )
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)
        _ = self._registry  # refuses a URL or a pepper that cannot work

    @cached_property
    def _registry(self) -> PaceRegistry:
        url = parse_storage(self.storage, "Pace(storage=...)", schemes=SCHEMES)
        registry = PaceRegistry(url, patience=self.patience, clock=self.clock, pepper=self.pepper)
        if not is_checking():
            registry.probe("Pace(storage=...)")
        return registry

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_registry"}

    def flow(self, request: Request) -> Flow:
        """Wait for a turn, send the request, and record the limit that the response reports.

        A request that continues a cut response takes no turn: servers do not count it as a new request.
        """
        if has(request.headers, _STREAM):
            return _sent_at_once(request)
        return PacedCall(request, self._registry, max_wait=self.max_wait, clock=self.clock, key=self.key).run()


def _sent_at_once(request: Request) -> Flow:
    response: Response = yield Send(request)
    return response
