"""Keys, tiers and prepaid credit.

Credit is counted in millionths of a dollar, so that a price of 2 dollars per million tokens is 2 per token and a bill
is exact. A key is shown once, when it is made; the store holds only its hash.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256

from examples.gateway.store import Store

__all__ = ["DOLLAR", "TIERS", "Account", "Accounts"]

DOLLAR = 1_000_000
TIERS = {"free": "10/minute", "paid": "100/minute"}
KIND = "account"


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    tier: str
    balance: int  # millionths of a dollar; the last call before it ran out may take it below zero
    spent: int
    calls: int
    tokens: int
    revoked: bool = False


class Accounts:
    def __init__(self, store: Store) -> None:
        self.store = store

    async def create(self, *, tier: str = "free", credit: int = DOLLAR, key: str | None = None) -> tuple[str, Account]:
        """A new key, and the account that it opens."""
        if tier not in TIERS:
            raise ValueError(f"tier {tier!r}: expected one of {', '.join(TIERS)}")
        key = key or f"sk-{secrets.token_urlsafe(24)}"
        account = Account(account_id(key), tier, credit, 0, 0, 0)
        start = {"tier": tier, "balance": str(credit), "spent": "0", "calls": "0", "tokens": "0"}
        await self.store.write(KIND, account.id, start)
        return key, account

    async def of_key(self, key: str) -> Account | None:
        """The account that this key opens; None for a key that was never made, or was revoked."""
        account = await self.get(account_id(key))
        return None if account is None or account.revoked else account

    async def get(self, id: str) -> Account | None:
        record = await self.store.read(KIND, id)
        if not record:
            return None
        counts = {name: int(record[name]) for name in ("balance", "spent", "calls", "tokens")}
        return Account(id=id, tier=record["tier"], revoked="revoked" in record, **counts)

    async def charge(self, id: str, cost: int, tokens: int) -> None:
        """Debit one executed call."""
        await self.store.add(KIND, id, {"balance": -cost, "spent": cost, "calls": 1, "tokens": tokens})

    async def top_up(self, id: str, credit: int) -> None:
        await self.store.add(KIND, id, {"balance": credit})

    async def revoke(self, id: str) -> None:
        await self.store.write(KIND, id, {"revoked": "yes"})


def account_id(key: str) -> str:
    return f"acct-{sha256(key.encode()).hexdigest()[:24]}"
