"""The exchange: what the components around one server request share with each other.

>>> exchange = Exchange.of(scope := {"type": "http"})
>>> exchange.headers.append((b"x-ratelimit-limit-requests", b"10"))
>>> Exchange.of(scope) is exchange
True
>>> exchange.complete([(b"allow", b"GET")])
[(b'allow', b'GET'), (b'x-ratelimit-limit-requests', b'10')]
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextvars import Token
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from flexmw.contract.exceptions import ErrorMapping, map_exception
from flexmw.contract.stream_framing import Framing
from flexmw.errors import APIError, raised
from flexmw.kit.events import ERROR_DECIDED, ErrorOutcome, error_decided
from flexmw.kit.merged_headers import ADDED_NAMES, OTHER_NAMES, Header, merge

__all__ = [
    "KEY",
    "REFUSALS",
    "STARTS",
    "ErrorOutcome",
    "Exchange",
    "Facts",
    "FramedStream",
    "Header",
    "JudgedKey",
    "dropped",
    "exchange_of",
    "keep_headers",
    "new_exchange",
    "too_late",
    "unclaimed",
]

KEY: Final = "flexmw"
"""The scope key of the exchange. It is the only thing that flexmw adds to a scope."""

STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
"""The messages that carry the headers of a response."""

REFUSALS: Final = frozenset({401, 403})
"""The statuses by which an app refuses a credential."""

_NO_HEADERS: Final[list[Header]] = []

Facts: TypeAlias = dict[str, str | int | float | bool]
"""Values for the span, by attribute name."""

JudgedKey: TypeAlias = tuple[Callable[[str, int], None], str]
"""A function of a key and a status, and the key."""

Observer = Callable[[str, Mapping[str, Any]], None]
_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]


def unclaimed(message: _Message) -> Awaitable[None]:
    """:attr:`Exchange.forward` before any component has set it.

    :raises RuntimeError: always.
    """
    raise RuntimeError(f"no component forwards the message {message['type']!r}")


class FramedStream(Protocol):
    """A stream that an Envelope frames: it forwards whole units only, and ends a failed stream with an error."""

    @property
    def framing(self) -> Framing:
        """Where the units end."""
        ...

    @property
    def opened(self) -> bool:
        """True once the head of the response was sent. It is held for a while."""
        ...

    @property
    def ended(self) -> bool:
        """True once nothing more can be added. The end of a stream is held until the app returns."""
        ...

    def failed_end(self, error: BaseException, last: bytes) -> bytes:
        """The unit that ends the stream if the app raises ``error``; empty if the stream needs none.

        :param last: the last units of the stream, without comments.
        """
        ...


class Exchange:
    """The state that the components of one request share. It lives in ``scope["flexmw"]`` while the app runs.

    :ivar headers: headers that the response is to carry, whoever makes the response: raw pairs, names in lower case.
        A component only adds to them; the outermost component that wraps ``send`` merges them (``headers_claimed``).
    :ivar known: the number of headers at the beginning of ``headers`` whose names
        :func:`~flexmw.kit.merged_headers.expect_headers` remembers. If there are no others, :meth:`complete` does not
        look whether their names are remembered.
    :ivar headers_claimed: True while a component further out merges ``headers`` into the response. A component that
        wraps ``send`` reads it when the request comes in: if it is False, the component sets it, calls
        :meth:`complete` on the start of the response, and resets it when its app is done. :meth:`send` does that.
    :ivar forward: where :meth:`send` sends the messages of the app.
    :ivar judged_key: a function, and the key of the caller: :meth:`send` calls ``function(key, status)`` before it
        sends a status that refuses the credential.
    :ivar facts: values for the span, by attribute name.
    :ivar map_exception: maps an exception to the error response that it becomes: by the options of the innermost
        Envelope around the caller, or by default.
    :ivar remembered: the last ``APIError`` that the app made, for frameworks that swallow exceptions.
    :ivar error_outcome: the error that the request ended with, set by the component that decided on the response.
    :ivar stream: the stream that the response is, if an Envelope frames it.
    :ivar observers: called with each event.
    :ivar drop: makes the outermost component that has seen the disconnect of the client send nothing more to the
        server. ``None`` until it has seen it; not there unless an execution may go on without its client.
    :ivar handled: the exception that the app handles with a 5xx, and the body of that. For an Envelope whose own task
        handles none, because a middleware in between runs the app in another one. ``None`` or not there without one.
    :ivar checks: the limiters further outside that are around several apps, and what those that share a store have
        counted, while their apps run; not there before the first of them.

    An Envelope enters the exchange (``with exchange:``) while its app runs. Meanwhile ``enveloped`` is True and each
    ``APIError`` that is made is remembered.
    """

    __slots__ = (
        "_tokens",
        "checks",
        "drop",
        "error_outcome",
        "facts",
        "forward",
        "handled",
        "headers",
        "headers_claimed",
        "judged_key",
        "known",
        "map_exception",
        "observers",
        "remembered",
        "stream",
    )

    checks: tuple[object, ...]
    drop: Callable[[], None] | None
    handled: tuple[BaseException, bytes] | None

    def set_up(
        self,
        headers: list[Header],
        facts: Facts,
        known: int = 0,
        forward: _Send = unclaimed,
        judged_key: JudgedKey | None = None,
    ) -> None:
        """Set the fields of a new exchange. Not an ``__init__``, which Python calls through C.

        :param forward: the ``send`` of the component that makes the exchange, if the component claims the headers.
        """
        self.headers = headers
        self.known = known
        self.facts = facts
        self.judged_key = judged_key
        self.headers_claimed = forward is not unclaimed
        self.forward = forward
        self.remembered: APIError | None = None
        self.error_outcome: ErrorOutcome | None = None
        self.stream: FramedStream | None = None
        self.map_exception: Callable[[BaseException], ErrorMapping] = map_exception
        self.observers: tuple[Observer, ...] = ()
        self._tokens: tuple[Token[Any], ...] = ()

    @staticmethod
    def of(scope: MutableMapping[str, Any]) -> Exchange:
        """:func:`exchange_of`."""
        return exchange_of(scope)

    def send(self, message: _Message) -> Awaitable[None]:
        """The ``send`` of an app whose response gets the headers of the exchange. Not a coroutine: it returns the
        awaitable of :attr:`forward`, which the app awaits.

        Only the outermost component that wraps ``send`` may use this method. That component sets
        :attr:`headers_claimed` while its app runs. Each component repeats these lines, because a context manager costs
        three more calls for each request::

            if exchange.headers_claimed:
                await app(scope, receive, send)
                return
            exchange.headers_claimed = True
            if exchange.forward is unclaimed:
                exchange.forward, send = send, exchange.send
            else:
                send = exchange.further_send(send)
            try:
                await app(scope, receive, send)
            finally:
                exchange.headers_claimed = False
                exchange.forward = too_late

        A function with these variables in its closure would be five objects more for each request.
        """
        # Most messages are compared, because a lookup in a set costs more.
        if message["type"] != "http.response.body" and (
            message["type"] == "http.response.start" or message["type"] in STARTS
        ):
            message = dict(message)
            message["headers"] = self.complete(message.get("headers") or ())
            judged_key = self.judged_key
            if judged_key is not None and (status := message.get("status")) != 200 and status in REFUSALS:
                judge, key = judged_key
                judge(key, status)
        forward = self.forward  # Python 3.11 looks a called attribute up in the class, a variable not
        return forward(message)

    def further_send(self, send: _Send) -> _Send:
        """:meth:`send` for a further call with the same scope, such as one of a middleware that tries again.

        The app of an earlier call may still send, if it was cancelled while a part of its work is shielded. Its
        messages must not reach the response of the further call.

        :param send: where the messages go. :attr:`judged_key` is that of the further call.
        """
        judged_key = self.judged_key

        def send_with_headers(message: _Message) -> Awaitable[None]:
            if message["type"] in STARTS:
                message = dict(message)
                message["headers"] = self.complete(message.get("headers") or ())
                if judged_key is not None and (status := message.get("status")) in REFUSALS:
                    judge, key = judged_key
                    judge(key, status)
            return send(message)

        return send_with_headers

    @property
    def enveloped(self) -> bool:
        """True while the app of an Envelope runs: the Envelope sends the error response to whatever the app raises.

        A component that needs this value after its own app is done reads it when the request comes in; an Envelope
        further inward would count otherwise.
        """
        return bool(self._tokens)

    def subscribe(self, observer: Observer) -> None:
        """Call ``observer`` with every event of this request. For telemetry alone."""
        self.observers += (observer,)

    def unsubscribe(self, observer: Observer) -> None:
        """Stop calling ``observer``. Needed to break the reference cycle between the request and its observer."""
        if self.observers == (observer,):
            self.observers = ()
            return
        left = list(self.observers)
        left.remove(observer)
        self.observers = tuple(left)

    def emit(self, event: str, details: Mapping[str, Any]) -> None:
        """Call the observers with an event, such as ``flexmw.rate_limiting.decided``."""
        for observer in self.observers:
            observer(event, details)

    def offer_drop(self, drop: Callable[[], None]) -> None:
        """Offer to send nothing more to the server, by a component whose ``receive`` has got the disconnect. The first
        offer counts: components further inward observe the rest of the response before it is dropped."""
        if getattr(self, "drop", self) is None:
            self.drop = drop

    def drop_rest(self) -> None:
        """Send nothing more to the server: the client has left, and the execution goes on for those who ask later.

        Some servers, such as hypercorn, log a warning for each message that they cannot write.
        """
        drop = getattr(self, "drop", None)
        if drop is not None:
            self.drop = None  # breaks the reference cycle between the request and the component
            drop()
        elif self.forward is not unclaimed and self.forward is not too_late:
            self.forward = dropped

    def set_error(self, outcome: ErrorOutcome) -> None:
        """Record the error that the request ends with, as early as it is known: before the framework's span ends.

        Observers get the event ``flexmw.error.decided``.
        """
        self.error_outcome = outcome
        if self.observers:
            self.emit(ERROR_DECIDED, error_decided(outcome))

    def complete(self, headers: Iterable[Header]) -> list[Header]:
        """The headers of a response, followed by the headers of the exchange that the response does not have."""
        if type(headers) is not list:
            headers = list(headers)
        added = self.headers
        # This runs for every response, and names are compared in lower case. Nearly all names are known: they are none
        # that an exchange has ever added. Loops, because a call of map() or set() costs more than three turns of them.
        if len(added) != self.known:
            for name, _ in added:
                if name not in ADDED_NAMES:
                    return merge(headers, added)
        for name, _ in headers:
            if name not in OTHER_NAMES:
                return merge(headers, added)
        return headers + added

    def _remember(self, error: APIError) -> None:
        self.remembered = error

    def enter(self) -> None:
        """Remember each ``APIError`` that is made until :meth:`leave`. ``with exchange:`` does both, in more time."""
        self._tokens += (raised.set(self._remember),)

    def leave(self) -> None:
        """Undo one :meth:`enter`."""
        tokens = self._tokens
        token, self._tokens = tokens[-1], tokens[:-1]
        try:
            raised.reset(token)
        except ValueError:
            self._leave_out_of_order(token)

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def _leave_out_of_order(self, last: Token[Any]) -> None:
        """Leave although ``last`` is the token of another task.

        A framework may run parts of one request in parallel, and the parts leave in any order.
        """
        left = list(self._tokens)
        for token in reversed(left):
            try:
                raised.reset(token)
            except ValueError:
                continue
            left.remove(token)
            break
        self._tokens = (*left, last)


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange:
    """The exchange of a request. It is made if the scope has no exchange.

    What runs for every request does the same without this call: ``scope.get(KEY) or new_exchange(scope)``.
    """
    return scope.get(KEY) or new_exchange(scope)


def new_exchange(scope: MutableMapping[str, Any]) -> Exchange:
    """Make the exchange of a request whose scope has none."""
    exchange = scope[KEY] = Exchange()
    exchange.set_up([], {})
    headers = scope.get("headers", _NO_HEADERS)
    # The headers of one request have names of one type, so the first name stands for all.
    if type(headers) is not list or (headers and type(headers[0][0]) is not bytes):
        keep_headers(scope)
    return exchange


def keep_headers(scope: MutableMapping[str, Any]) -> None:
    """Make a list of pairs of bytes of the headers of a request.

    ASGI allows headers that can be read only once, and names that are not ``bytes``. The first component that asks for
    the exchange calls this for them, because several components and the app read the headers.
    """
    scope["headers"] = [(bytes(name), bytes(value)) for name, value in scope.get("headers", _NO_HEADERS)]


def too_late(message: _Message) -> Awaitable[None]:
    """:attr:`Exchange.forward` when the app has returned. It keeps no ``send``, and so no cycle of references.

    :raises OSError: always, as a server does whose client has gone (ASGI 2.4). Frameworks and apps expect that error of
        ``send``: a task that was shielded from the end of its request sends so late.
    """
    raise OSError(f"the app has sent {message['type']!r} after it has returned")


async def dropped(message: _Message) -> None:
    """The ``send`` to a client that has left: does nothing."""
