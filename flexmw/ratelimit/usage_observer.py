"""Observe one response: read the usage from the passing body, and record how the response ends. Nothing is held back or
changed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final

from anyio.lowlevel import checkpoint

from flexmw.contract.coded_stream import PIECE_BYTES, ChunkDecoder, chunk_decoder
from flexmw.contract.content import value_of
from flexmw.kit.asgi import Message, Receive, Send
from flexmw.kit.exchange import Exchange
from flexmw.kit.log_limit import LogLimit
from flexmw.ratelimit.basis import Observed
from flexmw.ratelimit.ledger import BALANCE_SECONDS
from flexmw.ratelimit.usage import Usage, UsageReader
from flexmw.ratelimit.usage_body import ReadBody, body_of

__all__ = ["MAX_PLAIN_BYTES", "UsageLog", "UsageObserver"]

_IDEMPOTENCY: Final = "flexmw.idempotency.result"
_REPLAYED: Final = frozenset({"replayed", "attached"})
"""The results of Idempotency for a request that has executed nothing: its response was, or is, another request's."""

_PLAIN: Final = frozenset({"", "identity"})

MAX_PLAIN_BYTES: Final = 64 * 1024 * 1024
"""Most bytes that are decoded of a compressed response. A small body can expand to any size."""

_FILES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})

_log: Final = logging.getLogger("flexmw.ratelimit")


class UsageLog:
    """What the settlements of one limiter write to the log.

    :param monotonic: the clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._errors = LogLimit(burst=5, per_second=1 / 60, monotonic=monotonic)
        self._late_charges = LogLimit(burst=5, per_second=1 / 60, monotonic=monotonic)
        self._balances = LogLimit(burst=5, per_second=1 / 60, monotonic=monotonic)
        self._has_said = False

    def compressed(self, coding: str) -> None:
        """The usage of a response cannot be read because of its content coding."""
        if not self._has_said:
            self._has_said = True
            _log.warning(
                "RateLimit(usage=...) cannot read responses with content-encoding %r: their estimates stand. Put the "
                "limiter inside of what compresses, or install the package that decodes it: brotli 1.2 for br, "
                "backports.zstd for zstd. This is logged once.",
                coding[:40],
            )

    def failed(self, error: Exception) -> None:
        """A reader of usage, the function of the price, or the ledger has raised."""
        if (left_out := self._errors.admit()) is not None:
            _log.warning(
                "RateLimit cannot settle a request: the reader of usage=..., the function price=... or the ledger of "
                "budget=... has raised. The estimate of the request stands.%s",
                left_out,
                exc_info=error,
            )

    def no_balance(self, *, shadow: bool) -> None:
        """The application has not said in time what credit a caller has left.

        :param shadow: the limiter refuses nothing.
        """
        if (left_out := self._balances.admit()) is not None:
            _log.warning(
                "RateLimit(budget=...) has waited %s seconds for the credit of a caller: the function, or "
                "Ledger.balance, has not returned. The request %s.%s",
                BALANCE_SECONDS,
                "is neither limited nor charged" if shadow else "gets 503",
                left_out,
            )

    def late(self, longest_wait: float) -> None:
        """The ledger has not taken a charge in time.

        :param longest_wait: the seconds that the request has waited.
        """
        if (left_out := self._late_charges.admit()) is not None:
            _log.warning(
                "The ledger of RateLimit(budget=...) has not taken a charge within store_timeout=%s seconds. The "
                "response does not wait any longer; the charge goes on, and the reservation stays until it is done.%s",
                longest_wait,
                left_out,
            )

    def cut_off(self, amount: Decimal, unit: str, digest: str) -> None:
        """A charge was cut off: nobody knows whether the ledger has taken it.

        :param digest: the digest of the caller.
        """
        _log.warning(
            "The charge of %s %s to the ledger of RateLimit(budget=...) was cut off by the end of the app or of its "
            "event loop: the ledger may not have it. Caller.digest: %s",
            amount,
            unit,
            digest,
        )


class UsageObserver:
    """The response of one request.

    :param receive: the ``receive`` of the request.
    :param send: the ``send`` of the request.
    :param on_end: called before the last part of the response is sent.
    :param is_stored: an earlier request has made the response; without usage it costs nothing.
    """

    __slots__ = (
        "_body",
        "_decode",
        "_exchange",
        "_is_stored",
        "_log",
        "_on_end",
        "_plain_bytes",
        "_reader",
        "_receive",
        "_send",
        "_status",
        "has_left",
        "has_raised",
    )

    def __init__(
        self,
        reader: UsageReader,
        exchange: Exchange,
        log: UsageLog,
        receive: Receive,
        send: Send,
        on_end: Callable[[], Awaitable[None]],
        *,
        is_stored: bool = False,
    ) -> None:
        self._reader, self._exchange, self._log = reader, exchange, log
        self._receive, self._send, self._on_end = receive, send, on_end
        self._body: ReadBody | None = None
        self._decode: ChunkDecoder | None = None
        self._is_stored = is_stored
        self._plain_bytes = self._status = 0
        self.has_left = self.has_raised = False

    async def receive(self) -> Message:
        """The app's ``receive``."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_left = True
        return message

    async def send(self, message: Message) -> None:
        """The app's ``send``."""
        kind = message["type"]
        if kind == "http.response.body":
            if self._body is not None and (chunk := message.get("body")):
                if self._decode is None:
                    self._read(self._body, chunk)
                else:
                    await self._read_coded(self._body, chunk, self._decode)
            if not message.get("more_body"):
                await self._on_end()
        elif kind == "http.response.start":
            self._begin(message)
        elif kind in _FILES:
            await self._on_end()
        try:
            await self._send(message)
        except OSError:
            self.has_left = True
            raise

    def observed(self) -> Observed:
        """What was seen so far."""
        body = self._body
        usage: Usage | None = None
        if body is not None:
            try:
                usage = body.finish()
            except Exception as error:
                self._log.failed(error)
                body = self._body = None
        return Observed(
            status=self._status,
            usage=usage,
            outputs=0 if body is None else body.outputs,
            is_stream=body is not None and body.is_stream,
            is_replay=(self._is_stored and usage is None) or self._exchange.facts.get(_IDEMPOTENCY) in _REPLAYED,
            has_left=self.has_left,
            has_raised=self.has_raised,
        )

    def _begin(self, message: Message) -> None:
        self._status = message["status"]
        headers: list[tuple[bytes, bytes]] = list(message.get("headers") or ())
        body = body_of(value_of(headers, b"content-type"), self._reader)
        coding = value_of(headers, b"content-encoding").strip().lower()
        if body is not None and coding not in _PLAIN:
            self._decode = chunk_decoder(coding)
            if self._decode is None:
                body = None
                if 200 <= self._status < 300:
                    self._log.compressed(coding)
        self._body = body

    def _read(self, body: ReadBody, chunk: bytes) -> None:
        try:
            body.add(chunk if type(chunk) is bytes else bytes(chunk))
        except Exception as error:
            self._stop_reading(error)

    async def _read_coded(self, body: ReadBody, chunk: bytes, decode: ChunkDecoder) -> None:
        size = 0
        try:
            for piece in decode(chunk if type(chunk) is bytes else bytes(chunk)):
                self._plain_bytes += len(piece)
                if self._plain_bytes > MAX_PLAIN_BYTES:
                    raise ValueError(f"a compressed response of more than {MAX_PLAIN_BYTES} bytes is not read")
                body.add(piece)
                size += len(piece)
                if size >= PIECE_BYTES:  # 65 kB of lines expand to 64 MB, and stopped the event loop for 40 seconds
                    size = 0
                    await checkpoint()
        except Exception as error:
            self._stop_reading(error)

    def _stop_reading(self, error: Exception) -> None:
        self._log.failed(error)
        self._body = None
