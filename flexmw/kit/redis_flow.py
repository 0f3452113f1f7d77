"""Routing of one command to the right server: redirections of a cluster, a failover, a moving slot.

:func:`execution` is a generator without I/O. It yields steps, which :mod:`flexmw.kit.redis_blocking` and
:mod:`flexmw.kit.redis_async` carry out. A command is sent again only after a reply that says that it was not executed;
a command that was in flight when its connection broke is never repeated.

===================================  ====================================================================
Reply                                What follows
===================================  ====================================================================
``MOVED``                            the command goes to the node that the reply names
``ASK``                              ``ASKING`` and the command go to that node in one write
``TRYAGAIN``                         a pause of 5 to 50 ms, then from the beginning
``CLUSTERDOWN``                      the nodes are asked for the slots; a pause, then again
``READONLY``, ``MASTERDOWN``,        the connections to the server take no more commands, and the command is sent
``NOREPLICAS``                       once more: the address may lead to another server by now
a refused connection, in a cluster   the nodes are asked for the slots; once more if they name another node
anything else                        the error is raised
===================================  ====================================================================

>>> nodes = Nodes("redis+cluster", [("one", 7000)])
>>> nodes.learn([[0, 16383, [b"two", 7001]]], ("one", 7000), now=0.0)
>>> steps = execution(nodes, slot=5, now=lambda: 0.0, patience=1.0)
>>> next(steps)
Send(address=('two', 7001), asking=False)
>>> steps.throw(Exception("MOVED 5 three:7002"))
Send(address=('three', 7002), asking=False)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from flexmw.contract.exception_slots import chain_of
from flexmw.kit.redis_errors import CODES, code_of, is_reply

__all__ = ["SLOTS", "Address", "Drop", "Learn", "Nodes", "Pause", "Remap", "Send", "Step", "execution"]

Address: TypeAlias = tuple[str, int]
"""Host and port."""

Remap: TypeAlias = Callable[[Address], Address]
"""Returns the address that leads to a node from here, given the one that the node announces: behind NAT for example."""

SLOTS: Final = 16_384
SENTINEL_INTERVAL: Final = 0.2
"""Seconds after which Sentinel is asked again while commands are sent. A planned failover demotes the old primary only
11 seconds after it has promoted the new one; until then pooled connections write to it without an error."""

_LEARN_INTERVAL: Final = 0.1
"""Shortest time between two requests for the slots of a cluster, in seconds."""

_REDIRECTIONS: Final = 5
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05
_MAX_WITHOUT_REPLY: Final = 3
"""After this number of successive commands without a reply, idle connections are closed before the next command."""

_TARGET: Final = re.compile(r"(?:(?:MOVED|ASK) )?\d+ (?P<host>\S*):(?P<port>\d+)")


class Send(NamedTuple):
    """Send the command.

    :param address: the node; ``None``: the only server, or the primary that Sentinel names.
    :param asking: send ``ASKING`` before it, over the same connection.
    """

    address: Address | None
    asking: bool = False


class Drop(NamedTuple):
    """Give up the connections to a node. Later commands use new connections.

    :param in_use: give up the connections with commands too. An asyncio client closes them when these commands have
        ended.
    """

    address: Address | None
    in_use: bool


class Learn(NamedTuple):
    """Ask the cluster for its slots, or Sentinel for the primary. If that fails, the known nodes stay as they are."""


class Pause(NamedTuple):
    """Wait.

    :param seconds: for how long.
    """

    seconds: float


Step: TypeAlias = Send | Drop | Learn | Pause


class Nodes:
    """The known servers of one store.

    :param family: ``redis``, ``redis+cluster`` or ``redis+sentinel``.
    :param start: the addresses of the URL.
    :param remap: changes the addresses that the nodes of a cluster announce; ``None``: they stay as they are.
    """

    # fmt: off
    __slots__ = (
        "_learned_at", "_remap", "_slots", "family", "is_stale", "primary", "requests", "start", "without_reply",
    )
    # fmt: on

    def __init__(self, family: str, start: Sequence[Address], remap: Remap | None = None) -> None:
        self.family, self.start, self._remap = family, list(start), remap
        self._slots: list[Address | None] = [None] * SLOTS if family == "redis+cluster" else []
        self._learned_at = float("-inf")
        self.is_stale = False
        """Whether slots may have moved since they were learned."""
        self.without_reply = 0
        """The number of successive commands without a reply."""
        self.primary: Address | None = None
        """The last primary that Sentinel has named."""
        self.requests = 0
        """Number of requests for the slots so far."""

    def address(self, slot: int) -> Address | None:
        """The node of a slot."""
        return self._slots[slot] if self._slots else None

    def must_learn(self, slot: int, now: float) -> bool:
        """Return whether a command must ask for the servers first."""
        if self.family == "redis":
            return False
        if self.family == "redis+sentinel":
            return now - self._learned_at >= SENTINEL_INTERVAL
        return self._slots[slot] is None or (self.is_stale and now - self._learned_at >= _LEARN_INTERVAL)

    def record_request(self, now: float) -> None:
        """Record the time of a request for the servers."""
        self._learned_at = now

    def learn(self, reply: Sequence[Any], source: Address, *, now: float) -> None:
        """Replace the known slots by the reply to ``CLUSTER SLOTS``.

        :param source: the node that has replied; an empty host in the reply stands for the host of this node.
        """
        slots: list[Address | None] = [None] * SLOTS
        for first, last, primary, *_ in reply:
            host = primary[0].decode() if isinstance(primary[0], bytes) else primary[0]
            address = self._reached((host if host and host != "?" else source[0], int(primary[1])))
            slots[int(first) : int(last) + 1] = [address] * (int(last) - int(first) + 1)
        self._slots, self._learned_at, self.is_stale = slots, now, False

    def target(self, error: Exception, source: Address | None) -> Address | None:
        """Return the node that a redirection names. An empty host stands for the node that has sent the redirection."""
        found = _TARGET.search(str(error))
        if found is None:
            return None
        host = found["host"].strip("[]") or (source[0] if source else "")
        return self._reached((host, int(found["port"])))

    def _reached(self, announced: Address) -> Address:
        if self._remap is None:
            return announced
        host, port = self._remap(announced)
        return host, int(port)

    def moved(self, slot: int, address: Address) -> None:
        """Record that a slot has moved to another node, and that other slots may have moved too."""
        if self._slots:
            self._slots[slot] = address
            self.is_stale = True

    def known(self) -> list[Address]:
        """The nodes to ask, without duplicates: first the nodes that have slots, then the nodes of the URL."""
        return list(dict.fromkeys([*(address for address in self._slots if address), *self.start]))

    def primaries(self) -> list[Address]:
        """The nodes that have slots."""
        return list(dict.fromkeys(address for address in self._slots if address))

    def record_reply(self) -> None:
        """Record that a server has replied to a command."""
        self.without_reply = 0

    def record_no_reply(self) -> None:
        """Record that a command has ended without a reply."""
        self.without_reply += 1
        self.is_stale = True


def execution(
    nodes: Nodes, slot: int, now: Callable[[], float], patience: float, *, error: Exception | None = None
) -> Generator[Step, Any, Any]:
    """Send one command until a server has executed it. Returns the reply.

    :param slot: the slot of the keys of the command.
    :param now: the monotonic clock in seconds.
    :param patience: longest wait for a slot that moves, in seconds.
    :param error: the error of a first attempt that was made without this generator.
    :raises Exception: the error of the last attempt.
    """
    ends = now() + patience
    address: Address | None = None
    asking = has_dropped = has_learned = False
    redirections, pause = 0, _FIRST_PAUSE
    while True:
        if error is None:
            if address is None:
                if nodes.without_reply >= _MAX_WITHOUT_REPLY:
                    yield Drop(nodes.address(slot), in_use=False)
                if nodes.must_learn(slot, now()):
                    yield Learn()
                address = nodes.address(slot)
            try:
                reply = yield Send(address, asking)
            except Exception as raised:
                error = raised
            else:
                nodes.record_reply()
                return reply
        code, asking = code_of(error), False
        if is_reply(error):
            nodes.record_reply()
            if not code:
                raise error
        elif nodes.family != "redis+cluster" or has_learned or not _is_refused(error):
            nodes.record_no_reply()
            raise error
        if code in ("MOVED", "ASK"):
            target = nodes.target(error, address)
            redirections += 1
            if nodes.family != "redis+cluster" or target is None or redirections > _REDIRECTIONS:
                raise error
            address, asking = target, code == "ASK"
            if not asking:
                nodes.moved(slot, target)
        elif code in ("TRYAGAIN", "CLUSTERDOWN") and nodes.family == "redis+cluster" and now() + pause < ends:
            yield Pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            if code == "CLUSTERDOWN":
                yield Learn()
            address, redirections = None, 0
        elif code and CODES[code].drops:
            yield Drop(address, in_use=True)
            if has_dropped:
                raise error
            has_dropped = True
            if nodes.family == "redis+sentinel":
                yield Learn()
        elif not code:  # a node of a cluster refuses connections: another one may have its slots by now
            has_learned = True
            yield Learn()
            if nodes.address(slot) in (None, address):
                nodes.record_no_reply()
                raise error
            address = nodes.address(slot)
        else:
            raise error
        error = None


def _is_refused(error: Exception) -> bool:
    """Return whether the connection was refused, so that the command was not sent."""
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain_of(error)):
        return True
    return "Connect call failed" in str(error) or " connecting to " in str(error)
