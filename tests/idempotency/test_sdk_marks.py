"""Whether the list of equal calls says that a call of an SDK has got its response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flexmw.idempotency import Idempotency
from flexmw.idempotency.stores import Held, Swap
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.kit.asgi import Message, Receive, Scope, Send
from tests.idempotency.calls import Caller, Host

pytestmark = pytest.mark.anyio

FIRST, RETRY = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}


class Single(MemoryStore):
    """A store that counts its writes."""

    writes = 0

    def swap_now(self, *args: Any, **options: Any) -> Held | None:
        self.writes += 1
        return super().swap_now(*args, **options)

    async def drop(self, key: str, token: str) -> bool:
        self.writes += 1
        return await super().drop(key, token)


class Pairing(Single):
    """A store that writes two keys in one step."""

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        held = await self.swap(*first[:4], lease=first.lease, ttl=first.ttl)
        if held is None or held.token != first.token:
            return held, None
        self.writes -= 1
        return held, await self.swap(*second[:4], lease=second.lease, ttl=second.ttl)


STORES = pytest.mark.parametrize("kind", [Single, Pairing])


@dataclass
class Losing(Caller):
    """A client whose connection ends when the last part of the response is sent."""

    async def __call__(self) -> Caller:
        app = self.app

        async def losing(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_and_leave(message: Message) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    self.gone.set()
                await send(message)

            await app(scope, receive, send_and_leave)

        self.app = losing
        return await super().__call__()


@pytest.mark.parametrize(("kind", "writes"), [(Single, 4), (Pairing, 2)])
async def test_a_first_attempt_writes_twice_where_the_store_can_write_a_pair(kind: type[Single], writes: int) -> None:
    store = kind()
    caller = await Caller(Idempotency(storage=store, sdk_retries=True).asgi(Host()), headers=FIRST)()
    assert (caller.answer, store.writes) == (b"run 1", writes)


@STORES
@pytest.mark.parametrize("parts", [None, (b"one ", b"two")])
async def test_a_retry_gets_the_response_that_was_lost_and_not_that_of_a_later_equal_call(
    kind: type[Single], parts: tuple[bytes, ...] | None
) -> None:
    host = Host(parts=parts)
    app = Idempotency(storage=kind(), sdk_retries=True).asgi(host)
    lost = await Losing(app, headers=FIRST)()
    assert lost.sent[-1].get("body") != b"two"
    host.parts = None
    later = await Caller(app, headers=FIRST)()
    assert later.answer == b"run 2"
    again = await Caller(app, headers=RETRY)()
    assert (again.answer, host.runs) == (b"run 1" if parts is None else b"one two", 2)


class LosingReplies(Pairing):
    """A store whose reply to the pair with the response is lost."""

    pairs = 0

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        written = await super().swap_pair(first, second)
        self.pairs += 1
        if self.pairs == 2:
            raise ConnectionError("the reply was lost")
        return written


async def test_a_mark_whose_reply_was_lost_is_taken_back_if_the_client_has_left() -> None:
    host = Host()
    app = Idempotency(storage=LosingReplies(), sdk_retries=True).asgi(host)
    await Losing(app, headers=FIRST)()
    later = await Caller(app, headers=FIRST)()
    assert later.answer == b"run 2"
    again = await Caller(app, headers=RETRY)()
    assert (again.answer, again.replayed, host.runs) == (b"run 1", True, 2)


@STORES
async def test_a_response_is_marked_where_an_equal_call_has_changed_the_list_meanwhile(kind: type[Single]) -> None:
    host = Host()
    app = Idempotency(storage=kind(), sdk_retries=True).asgi(host)

    async def call_again(scope: Scope, receive: Receive, send: Send) -> None:
        host.work = None
        await Losing(app, headers=FIRST)()

    host.work = call_again
    outer = await Caller(app, headers=FIRST)()
    assert (outer.status, host.runs) == (200, 2)
    again = await Caller(app, headers=RETRY)()
    assert (again.answer, again.replayed, host.runs) == (b"run 2", True, 2)


@STORES
@pytest.mark.parametrize("status", [401, 403])
async def test_a_call_whose_caller_was_not_let_in_leaves_no_list(kind: type[Single], status: int) -> None:
    store = kind()
    await Caller(Idempotency(storage=store, sdk_retries=True).asgi(Host(status=status)), headers=FIRST)()
    assert not [name async for name, _ in store.scan() if ":f:" in name]
