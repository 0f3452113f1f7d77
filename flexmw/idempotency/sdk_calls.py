"""Claim the call of an SDK that sends no key: the rules of :mod:`flexmw.idempotency.sdk`, carried out on a store.

The list of equal calls and the record of one call are two keys of one caller. Where the store can write both in one
step (:class:`~flexmw.idempotency.stores.SwapPairs`), a first attempt is claimed by one operation if the store knows no
equal call. Any other attempt needs a second operation, because the first one has returned the list. Its response is
stored, and marked as sent in the list, by one operation too, unless the list has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

import anyio

from flexmw.idempotency import sdk
from flexmw.idempotency.claim import Claim, Claims, StoreFailed, SwapPair, random_token
from flexmw.idempotency.core import KeyedRequest, Refuse, Replay, StoredResponse, begin
from flexmw.idempotency.stores import Held, Store, Swap
from flexmw.idempotency.stores.guarded import guarded

__all__ = ["SdkAttempt", "SdkRequest", "claim_call"]

_ROUNDS: Final = 32
"""How often a lost race for the list is repeated. Each loss means that another request has won, so few are enough."""

_CREDENTIAL_REFUSED: Final = frozenset({401, 403})
"""Statuses after which a call is removed from the store: a caller who was not let in must not fill the store."""

Outcome: TypeAlias = Claim | Replay | Refuse


class SdkRequest(NamedTuple):
    """A request without a key whose attempts are numbered.

    :param calls: the store key of the list of equal calls.
    :param records: the beginning of the store keys of the records of calls.
    :param fingerprint: the keyed hash of the request.
    :param retries: the retry count of the request.
    :param request_id: the hash of the id that a proxy gave to the request; empty without one.
    :param what: method and path of the request, for operators; empty where they are not kept.
    """

    calls: str
    records: str
    fingerprint: str
    retries: int
    request_id: str = ""
    what: str = ""


class SdkAttempt:
    """A request without a key that belongs to a call of an SDK.

    :param claims: the claims in the store.
    :param name: the store key of the record of the call.
    :param request: the request, with the id of the call as its key.
    :param calls: the store key of the list of equal calls.
    :param held: the list, as this attempt has written it.
    :param listed: the calls in that list.
    """

    __slots__ = ("_calls", "_claims", "_held", "_is_marked", "_listed", "name", "request")

    def __init__(
        self,
        claims: Claims,
        name: str,
        request: KeyedRequest,
        calls: str,
        held: Held,
        listed: tuple[sdk.SdkCall, ...],
    ) -> None:
        self._claims, self.name, self.request, self._calls = claims, name, request, calls
        self._held, self._listed = held, listed
        self._is_marked: bool | None = False
        """Whether the list says that the response was sent; ``None``: the reply of the store was lost."""

    @property
    def call(self) -> str:
        """The id of the call in the list."""
        return self.request.key

    @property
    def ttl(self) -> float:
        """Seconds that the record of the call lives at most."""
        return _ttl(self._claims)

    async def complete(self, claim: Claim, response: StoredResponse) -> None:
        """Store the response of this attempt, whose client is still there, before its last part is sent.

        Where the store can write the response and the list in one step, the list says from now on that the response was
        sent. If the client leaves before it has the whole response, :meth:`conclude` takes the mark back.
        """
        swap_pair: SwapPair | None = getattr(self._claims.store, "swap_pair", None)
        if swap_pair is None or response.status in _CREDENTIAL_REFUSED:
            await claim.complete(response)
            return
        calls = sdk.mark(self._listed, self.call, refused=False)
        write = _list_write(self._claims, self._calls, self._held, calls)
        self._is_marked = None
        held = await claim.complete_with(response, swap_pair, write)
        self._is_marked = held is not None and held.token == write.token
        if held is not None and self._is_marked:
            self._held, self._listed = held, calls

    async def conclude(self, status: int, *, refused: bool, is_gone: bool) -> None:
        """Record whether the client of this attempt has got its response: later attempts of the call read it.

        :param status: the HTTP status of the response; 0 where there is none.
        :param refused: the response said that nothing was done.
        :param is_gone: the client has not got its whole response.
        """
        if status in _CREDENTIAL_REFUSED:
            await self.forget()
        elif refused:
            await self.mark(refused=True)
        elif is_gone:
            if self._is_marked is not False:
                await self._change(lambda calls: sdk.unmark(calls, self.call))
        elif not self._is_marked:
            await self.mark(refused=False)

    async def mark(self, *, refused: bool) -> None:
        """Record that the response was sent, or that the response refused the request and the app did nothing.

        A failure is ignored: a later retry then finds more calls than it needs.
        """
        await self._change(lambda calls: sdk.mark(calls, self.call, refused=refused))

    async def forget(self) -> None:
        """Remove the call: its caller was not let in. A failure is ignored: the list expires."""
        await self._change(lambda calls: sdk.forget(calls, self.call))

    async def _change(self, change: Callable[[tuple[sdk.SdkCall, ...]], tuple[sdk.SdkCall, ...]]) -> None:
        claims, store = self._claims, self._claims.store
        with suppress(Exception), guarded(store):
            # Mostly the list is still what this attempt has written. If not, the refused write returns the list.
            held: Held | None = self._held
            for _ in range(_ROUNDS):
                if held is None:
                    return
                calls = change(self._listed if held is self._held else sdk.decode(held.entry))
                if not calls:
                    if await store.drop(self._calls, held.token):
                        return
                    held = await store.load(self._calls)
                    continue
                written = _list_write(claims, self._calls, held, calls)
                held = await store.swap(*written[:4], lease=written.lease, ttl=written.ttl)
                if held is not None and held.token == written.token:
                    return


async def claim_call(
    claims: Claims, request: SdkRequest, has_left: Callable[[], Awaitable[bool]]
) -> tuple[SdkAttempt | None, Outcome]:
    """Find the call that a request belongs to, and claim its key.

    No attempt: the request arrived after its own retry, and its client has left.

    :param has_left: whether the client has left.
    :raises StoreFailed: when the store does not respond. The key is given back if it was claimed nevertheless.
    """
    token, fresh = claims.token(), random_token()  # operators see the id of a call, also after a restart
    name = ""
    try:
        with guarded(claims.store):
            held: Held | None = None
            while True:
                now = claims.store_time()
                if now is None:
                    held = await claims.store.load(request.calls)
                    now = claims.store_time() or claims.clock.now()  # the reply has the store's time
                found = await _list_after(claims, request, held, fresh, now, has_left)
                if found is None:
                    return None, Refuse("in_progress")
                call, calls = found
                name = f"{request.records}{call}"
                keyed = KeyedRequest(call, request.fingerprint, claims.clock.now(), request.what)
                begun = begin(keyed, claims.generation())
                first = _list_write(claims, request.calls, held, calls)
                second = Swap(name, "", token, claims.encode(begun), claims.lease, _ttl(claims))
                held, record = await _swap_pair(claims.store, first, second)
                if held is not None and held.token == first.token:
                    break
            attempt = SdkAttempt(claims, name, keyed, request.calls, held, calls)
            if record is not None and record.token == token:
                return attempt, Claim(claims, name, token, begun, _ttl(claims))
            return attempt, await claims.claim_held(name, keyed, token, begun.generation, record, ttl=_ttl(claims))
    except Exception as error:
        if name:
            await claims.undo(name, token, error)
        raise StoreFailed from error
    except anyio.get_cancelled_exc_class():
        if name:
            await claims.drop(name, token)
        raise


async def _list_after(
    claims: Claims,
    request: SdkRequest,
    held: Held | None,
    fresh: str,
    now: float,
    has_left: Callable[[], Awaitable[bool]],
) -> tuple[str, tuple[sdk.SdkCall, ...]] | None:
    """The id of the call that the request belongs to, and the list with it; ``None``: the request is late.

    :param held: the list in the store.
    :param fresh: the id of the call if it is a new one.
    """
    calls = () if held is None else sdk.decode(held.entry)
    count, window, request_id = request.retries, claims.sdk_window, request.request_id
    call = sdk.match(calls, count=count, now=now, window=window, request_id=request_id)
    if call is not None:
        return call.id, sdk.taken(calls, call, count=count, now=now, request_id=request_id)
    calls = sdk.prune(calls, now=now, window=window)
    if sdk.may_be_late(calls, count=count) and await has_left():
        return None
    return fresh, (*calls, sdk.SdkCall(id=fresh, count=count, at=now, request_id=request_id))


def _list_write(claims: Claims, name: str, held: Held | None, calls: tuple[sdk.SdkCall, ...]) -> Swap:
    """The write of a list of calls in place of what the store holds."""
    expected = "" if held is None else held.token
    return Swap(name, expected, claims.token(), sdk.encode(calls), 0.0, claims.sdk_window)


async def _swap_pair(store: Store, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
    """The method of :class:`~flexmw.idempotency.stores.SwapPairs`, for any store."""
    swap_pair: SwapPair | None = getattr(store, "swap_pair", None)
    if swap_pair is not None:
        return await swap_pair(first, second)
    written = await store.swap(*first[:4], lease=first.lease, ttl=first.ttl)
    if written is None or written.token != first.token:
        return written, None
    return written, await store.swap(*second[:4], lease=second.lease, ttl=second.ttl)


def _ttl(claims: Claims) -> float:
    return max(claims.sdk_window, claims.lease)
