"""Notice that a credential was renewed between two attempts of one call.

Two callers never share a key, so a client that comes back with a refreshed token, another signature or a changed cookie
is executed twice. No rule can recognise such a client with certainty. But the same key with the same request from the
same address, under another credential, is a strong sign.
"""

from __future__ import annotations

import logging
from typing import Final

from flexmw.kit.clock import Clock
from flexmw.kit.expiring import ExpiringTable

__all__ = ["AnonymousCalls", "RenewedCredentials"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

_MOST: Final = 16_384
"""Executions that one process remembers; they take about 4 MB."""


class RenewedCredentials:
    """The executed keys of this process: by address, key and request, the caller who used them.

    :param ttl: seconds that an execution is remembered.
    :param clock: the clock that measures ``ttl``.
    """

    __slots__ = ("_callers", "_clock", "_has_warned", "_ttl")

    def __init__(self, ttl: float, clock: Clock) -> None:
        self._ttl, self._clock = ttl, clock
        self._callers: ExpiringTable[tuple[str, float]] = ExpiringTable(int(ttl) + 1, max_entries=_MOST, shards=16)
        self._has_warned = False

    def notice(self, address: str, key: str, fingerprint: str, caller: str) -> bool:
        """Remember an execution. Returns True if another caller has executed the same key for the same request.

        :param address: the client's address.
        :param key: the idempotency key.
        :param fingerprint: the digest of the request.
        :param caller: the keyed hash of the caller.
        """
        # The number is random to everybody outside the process, and holds neither the address nor the key.
        name = hash((address, fingerprint, key))
        now = self._clock.monotonic()
        shard = self._callers.shard(name, int(now))
        seen: tuple[str, float] | None = shard.young.get(name) or shard.old.pop(name, None)
        shard.young[name] = (caller, now)
        if seen is None or seen[0] == caller or now - seen[1] > self._ttl:
            return False
        if not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "Idempotency(caller=...) is needed: two different credentials of one client address sent the same "
                "idempotency key with the same request within ttl (%g seconds), and both requests were executed. If "
                "a client's token, signature or cookie changes between its attempts, give a function that names the "
                "caller. This is logged once; the metric flexmw.idempotency.changed_credentials counts on.",
                self._ttl,
            )
        return True


class AnonymousCalls:
    """Warns once that the retries of SDKs are not recognised, because their requests have no credential."""

    __slots__ = ("_has_warned",)

    def __init__(self) -> None:
        self._has_warned = False

    def warn(self, *, retry_count: int) -> None:
        """Count a call without key and credential, which runs without protection.

        :param retry_count: retries before this attempt; 0 may be the only attempt of a call.
        """
        if retry_count and not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "Idempotency(sdk_retries=True) does not recognise the retry of a caller who shows no credential: all "
                "clients behind one address would be one caller. The retry was executed. Give Idempotency(caller=...) "
                "a function that names such callers. This is logged once."
            )
