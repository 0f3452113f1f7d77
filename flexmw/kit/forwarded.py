"""Find the client behind proxies: ``X-Forwarded-For``, and ``Forwarded`` of RFC 7239.

A proxy appends the address of its own client, so the hops are read from the right. The first hop that is not a trusted
proxy is the client; the client may have invented every hop on its left.

>>> scope = {"client": ("10.0.0.4", 1), "headers": [(b"x-forwarded-for", b"6.6.6.6, 203.0.113.9")]}
>>> Proxies(["10.0.0.0/8"]).client(scope), Proxies(1).client(scope), Proxies(()).client(scope)
('203.0.113.9', '203.0.113.9', '10.0.0.4')
>>> Proxies(1).client({"client": ("10.0.0.4", 1), "headers": [(b"forwarded", b'for="[2001:db8::1]:4711";proto=https')]})
'2001:db8::/64'

A proxy writes one of the two headers and passes on the other one as the client sent it. A request with both headers is
therefore believed only if both name the same client; otherwise the peer of the connection counts as the client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias

from flexmw.errors import ConfigError
from flexmw.kit.forwarded_check import LOGGERS, ForwardedCheck
from flexmw.kit.options import Rule

__all__ = ["PROXIES", "Network", "Proxies", "networks", "warn_if_everyone_is_trusted"]

Network: TypeAlias = IPv4Network | IPv6Network
_Address: TypeAlias = IPv4Address | IPv6Address

_HOPS: Final = 64
"""Hops that are read, from the right."""

_LONGEST: Final = 64
"""Characters of the longest text that can be an address with a port. Longer texts are not parsed and not cached."""

_UNIX: Final = "unix"
_NETWORKS: Final = "networks such as '10.0.0.0/8', '2001:db8::/32' or '192.0.2.7' (no host bits set), or 'unix'"
_EXPECTED: Final = f"{_NETWORKS}; or a number of proxies"

PROXIES: Final = Rule(
    "a list of networks (CIDR), or the number of proxies in front",
    lambda value: isinstance(value, (tuple, list)) or (isinstance(value, int) and not isinstance(value, bool)),
)
"""The rule of an option ``trusted_proxies``. :class:`Proxies` checks the networks."""

_FORWARDED: Final = frozenset({b"x-forwarded-for", b"forwarded"})
_NAME: Final = itemgetter(0)
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_PAIR: Final = rf'{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
_ELEMENT: Final = re.compile(rf"[ \t]*(?:{_PAIR}[ \t]*)?(?:;[ \t]*(?:{_PAIR}[ \t]*)?)*(?:,|$)")
"""One element of the list with its comma. No two adjacent quantifiers match the same characters, so a match takes
linear time."""

_PAIRS: Final = re.compile(_PAIR)


class Proxies:
    """The proxies whose forwarded hops are believed.

    :param trusted: networks (CIDR) of the proxies, where ``"unix"`` stands for a peer without an address, as behind a
        Unix socket; or the number of proxies in front of the app, whatever their addresses.
    :param option: the option's name for error messages.
    :raises ConfigError: for a text that is not a network, or a number below 0.
    """

    __slots__ = ("_check", "_count", "_trusted", "_unix")

    def __init__(self, trusted: Sequence[str] | int = (), *, option: str = "trusted_proxies") -> None:
        self._count = 0
        listed: Sequence[str] = ()
        if isinstance(trusted, int):
            if isinstance(trusted, bool) or trusted < 0:
                raise ConfigError(option, trusted, _EXPECTED)
            self._count = trusted
        else:
            listed = trusted
        self._unix = _UNIX in listed
        self._trusted = networks([text for text in listed if text != _UNIX], option)
        component = option.partition(":")[0]
        is_checked = component == "RateLimit" or (component in LOGGERS and bool(self._trusted))
        self._check: ForwardedCheck | None = None
        if is_checked and not self._count and not self._unix:
            self._check = ForwardedCheck(component, has_networks=bool(self._trusted))

    @property
    def trusts_everyone(self) -> bool:
        """Whether every address counts as a proxy, so that a client may invent its own address."""
        v4 = [network for network in self._trusted if isinstance(network, IPv4Network)]
        v6 = [network for network in self._trusted if isinstance(network, IPv6Network)]
        joined: Iterator[Network] = chain(collapse_addresses(v4), collapse_addresses(v6))
        return any(network.prefixlen == 0 for network in joined)

    def trusts_peer(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether the peer of a request is one of the proxies, so that the headers that the proxy sets are believed."""
        if self._count:
            return True
        client = scope.get("client")
        if not client or not client[0]:
            return self._unix
        peer = _parse(client[0])
        return peer is not None and self._is_trusted(peer)

    def client(self, scope: MutableMapping[str, Any]) -> str | None:
        """The client's IPv4 address or IPv6 /64 network as text; ``None`` if it is unknown."""
        client = scope.get("client")
        if client and client[0] and not (self._trusted or self._count or self._unix or self._check):
            return _group_of(client[0]) if len(client[0]) <= _LONGEST else None
        peer = _parse(client[0]) if client and client[0] else None
        if self._check is not None and not _FORWARDED.isdisjoint(map(_NAME, scope.get("headers") or ())):
            self._look(self._check, peer)
        if self._count == 0:
            if peer is None:
                if not self._unix or (client and client[0]):
                    return None
            elif not self._is_trusted(peer):
                return _group(peer)
        found = {self._from(hops, peer) for hops in (_x_forwarded_for(scope), _forwarded(scope)) if hops is not None}
        address = found.pop() if len(found) == 1 else peer
        return None if address is None else _group(address)

    def _look(self, check: ForwardedCheck, peer: _Address | None) -> None:
        check.look(
            "a Unix socket" if peer is None else str(peer), is_trusted=peer is not None and self._is_trusted(peer)
        )
        if check.is_over:
            self._check = None

    def _from(self, hops: Sequence[str], peer: _Address | None) -> _Address | None:
        """The client in a list of hops, of which the last one is the nearest."""
        for number, hop in enumerate(reversed(hops[-_HOPS:]), start=1):
            address = _parse(hop)
            if address is None:
                break
            peer = address
            if number == self._count or not (self._count or self._is_trusted(address)):
                break
        return peer

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def warn_if_everyone_is_trusted(component: str, proxies: Proxies, logger: logging.Logger) -> None:
    """Log once in this process that the trusted networks hold every address.

    :param component: the name of the component's class.
    """
    if proxies.trusts_everyone and component not in _warned:
        _warned.add(component)
        logger.warning(
            "%s(trusted_proxies=...) holds every address: the first hop of X-Forwarded-For counts as the client, which "
            "the client may invent. If the addresses of the proxies are unknown, give their number instead, such as "
            "trusted_proxies=1. This is logged once.",
            component,
        )


_warned: Final[set[str]] = set()


def networks(values: Iterable[str], option: str) -> tuple[Network, ...]:
    """Parse networks in CIDR notation. A single address is a network of one address.

    :raises ConfigError: with ``option`` and the first value that is not a network.
    """
    parsed: list[Network] = []
    for value in values:
        try:
            if not isinstance(value, str):
                raise TypeError
            parsed.append(ip_network(value))
        except (ValueError, TypeError):
            raise ConfigError(option, value, _EXPECTED) from None
    return tuple(parsed)


def _lines(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    """The lines of a header as one list; ``None`` without a line."""
    lines = [value for key, value in scope.get("headers") or () if key == name]
    return b",".join(lines).decode("latin-1") if lines else None


def _x_forwarded_for(scope: MutableMapping[str, Any]) -> list[str] | None:
    text = _lines(scope, b"x-forwarded-for")
    return None if text is None else text.split(",")


def _forwarded(scope: MutableMapping[str, Any]) -> list[str] | None:
    """The ``for`` parameters of ``Forwarded``. A malformed text gives no hops: a quote that a client leaves open would
    otherwise hide the hop that the proxy appends."""
    text = _lines(scope, b"forwarded")
    if text is None:
        return None
    elements = list(_elements(text))
    return [_for(element) for element in elements] if None not in elements else []


def _elements(text: str) -> Iterator[str | None]:
    """The elements of a list that are not empty; ``None`` at the first one that is malformed."""
    start = 0
    while start < len(text):
        match = _ELEMENT.match(text, start)
        if match is None or match.end() == start:
            yield None
            return
        element = match[0].rstrip(", \t")
        if element:
            yield element.strip()
        start = match.end()


def _for(element: str | None) -> str:
    for pair in _PAIRS.findall(element or ""):
        name, _, value = pair.partition("=")
        if name.lower() == "for":
            return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
    return ""


def _parse(text: str) -> _Address | None:
    """Parse an address with or without a port, brackets or a zone. An IPv4-mapped IPv6 address becomes IPv4."""
    return _parse_short(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> _Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)
def _group_of(text: str) -> str | None:
    """The address or network of a peer. Hashing a text costs a fifth of hashing an address."""
    address = _parse_short(text)
    return None if address is None else _group(address)


_NAT64: Final = IPv6Network("64:ff9b::/96")
"""The prefix of IPv4 clients behind a translator (RFC 6052): all of them are in one /64 network."""


@lru_cache(maxsize=4096)
def _group(address: _Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    if address in _NAT64:
        return str(IPv4Address(int(address) & 0xFFFFFFFF))
    return str(IPv6Network((address, 64), strict=False))
