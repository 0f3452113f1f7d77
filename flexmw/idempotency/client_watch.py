"""Client watch: notice that the client of an execution leaves, and when nobody reads its response any more."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from flexmw.idempotency.client_connection import ClientConnection
from flexmw.idempotency.lingering import SDK_LINGER, wait_until_unread
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.recording import ResponseRecorder

__all__ = ["ClientWatch"]


class ClientWatch:
    """The side task of one execution that waits until the client leaves.

    :param is_over: whether the app has responded, or has been told that nobody wants its response.
    :param is_keyed: whether the request has a key. Without one, nobody can ask for the rest of an unframed response.
    :param on_leave: called once, when the client has left before the end.
    :param on_unread: called once, when the response has no reader, and no reader can come or none has come in time.
    """

    __slots__ = ("_client", "_framed", "_is_keyed", "_is_over", "_on_leave", "_on_unread", "_plan", "_recorder")

    def __init__(
        self,
        plan: Plan,
        client: ClientConnection,
        recorder: ResponseRecorder,
        *,
        is_over: Callable[[], bool],
        is_keyed: bool,
        on_leave: Callable[[], None],
        on_unread: Callable[[], None],
    ) -> None:
        self._plan, self._client, self._recorder, self._is_keyed = plan, client, recorder, is_keyed
        self._is_over, self._on_leave, self._on_unread = is_over, on_leave, on_unread
        self._framed: anyio.Event | None = None

    async def run(self) -> None:
        """Wait until the client leaves, then until nobody reads the response."""
        client, recorder, plan = self._client, self._recorder, self._plan
        await client.watch(self._is_over)
        if not client.has_left or self._is_over():
            return
        self._on_leave()
        linger = plan.linger
        if not self._is_keyed:
            if not recorder.is_framed:
                self._framed = anyio.Event()
                await self._framed.wait()
            linger = SDK_LINGER if linger is None else linger
        if recorder.log is not None and not recorder.log.is_continuable:
            self._on_unread()
        elif linger is not None:
            await wait_until_unread(plan, recorder, linger)
            self._on_unread()

    def frame(self) -> None:
        """Take note that the response is an event stream of known framing."""
        if self._framed is not None:
            self._framed.set()
