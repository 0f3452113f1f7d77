"""The diagrams that show how things work: the path of a request, the decision tables, a stream that is continued."""

from __future__ import annotations

from typing import Final

from flexmw.idempotency.core import KeyedRequest, Record, Refuse, Replay, StoredResponse, decide
from flexmw.retry.core import TABLE, RowName, Safety
from scripts.pictures.canvas import Canvas, Colour

__all__ = ["idempotency_table", "request_path", "retry_table", "stream"]


def request_path() -> str:
    """A POST from a client's components through those of the server to the app."""
    canvas = Canvas(760, 372, "The path of a POST through the components of a client and of a server")
    canvas.text(24, 34, "your client, or the client inside of an SDK", bold=True)
    client: list[tuple[str, list[str], Colour]] = [
        ("your code", ["your code"], "plain"),
        ("tagging", ["Tagging", "one span, one truth"], "blue"),
        ("retry", ["Retry", "where nothing is", "done twice"], "blue"),
        ("pace", ["Pace", "by the server's", "headers"], "blue"),
        ("transport", ["transport", "httpx, httpx2"], "plain"),
    ]
    for number, (_, lines, colour) in enumerate(client):
        x = 24 + number * 146
        canvas.box(x, 50, 128, 72, lines, colour)
        if number:
            canvas.arrow(x - 18, 86, x - 1, 86)
    canvas.arrow(672, 123, 672, 194)
    canvas.text(462, 150, "one POST, perhaps sent twice", soft=True, size=13)
    canvas.text(24, 180, "your app, on any ASGI server", bold=True)
    server: list[tuple[list[str], Colour]] = [
        (["your app", "executed once"], "green"),
        (["Idempotency", "one key,", "one execution"], "blue"),
        (["RateLimit", "requests, tokens,", "money"], "blue"),
        (["Envelope", "every error in", "one format"], "blue"),
        (["Tagging", "the truth on", "the span"], "blue"),
    ]
    for number, (lines, colour) in enumerate(server):
        x = 24 + number * 146
        canvas.box(x, 196, 128, 72, lines, colour)
        if number:
            canvas.arrow(x - 1, 232, x - 18, 232)
    for x, lines in ((170, ["keys", "memory, sqlite, redis"]), (316, ["counters", "memory, redis"])):
        canvas.box(x - 6, 306, 140, 48, lines, "grey")
        canvas.arrow(x + 64, 269, x + 64, 305, dashed=True)
    canvas.text(462, 326, "Components are written outermost first.", size=13, soft=True)
    canvas.text(462, 346, "Each works alone, too.", size=13, soft=True)
    return canvas.svg()


_EVENTS: Final[dict[RowName, str]] = {
    "unsent": "the request provably never left",
    "refused": "429, 425, 503 with Retry-After",
    "ambiguous": "response lost, 408, any other 5xx",
    "conflict": "409: the same key is running",
    "answered": "every other response",
    "asked": "x-should-retry: true",
    "told_not_to": "x-should-retry: false",
}
_SAFETIES: Final[dict[Safety, tuple[str, str]]] = {
    "safe_method": ("GET, PUT,", "DELETE"),
    "idempotency_key": ("a key that", "is honoured"),
    "opt_in": ("the caller", "promises"),
    "none": ("a bare", "POST"),
}


def retry_table() -> str:
    """What Retry sends again: the table of ``flexmw.retry.core``."""
    canvas = Canvas(760, 88 + 40 * len(TABLE), "The decision table of Retry")
    canvas.text(24, 40, "Retry: is it sent again?", bold=True, size=16)
    for column, lines in enumerate(_SAFETIES.values()):
        for number, line in enumerate(lines):
            canvas.text(372 + column * 100, 30 + 17 * number, line, size=13, soft=True, middle=True)
    for row, (event, allowed) in enumerate(TABLE.items()):
        y = 66 + 40 * row
        canvas.line(24, y, 736, y)
        canvas.text(24, y + 26, _EVENTS[event])
        for column, safety in enumerate(_SAFETIES):
            colour: Colour = "green" if safety in allowed else "red"
            canvas.box(328 + column * 100, y + 6, 88, 28, ["again" if safety in allowed else "no"], colour)
    return canvas.svg()


_REQUEST: Final = KeyedRequest(key="k", fingerprint="this", now=0.0)
_HELD: Final[list[tuple[str, Record | None, bool]]] = [
    ("nothing", None, False),
    ("an execution that runs", Record(phase="running", key="k", fingerprint="this", at=0.0), True),
    (
        "its response",
        Record(phase="done", key="k", fingerprint="this", at=0.0, response=StoredResponse(status=200)),
        False,
    ),
    ("an execution that began no work", Record(phase="open", key="k", fingerprint="this", at=0.0), False),
    ("an execution whose process died", Record(phase="running", key="k", fingerprint="this", at=0.0), False),
    ("an outcome that nobody knows", Record(phase="unknown", key="k", fingerprint="this", at=0.0), False),
    ("another request under this key", Record(phase="done", key="k", fingerprint="other", at=0.0), False),
]
_REFUSALS: Final = {
    "in_progress": "409 idempotency_in_progress, with Retry-After",
    "unknown": "409 idempotency_unknown: reconcile first",
    "reused": "422 idempotency_key_reused",
}


def idempotency_table() -> str:
    """What becomes of a keyed POST, by what the store holds: what ``flexmw.idempotency.core.decide`` decides."""
    canvas = Canvas(760, 70 + 40 * len(_HELD), "The decision table of Idempotency")
    canvas.text(24, 36, "Idempotency: the store holds", bold=True, size=16)
    canvas.text(344, 36, "and the request gets", bold=True, size=16)
    for row, (name, held, alive) in enumerate(_HELD):
        y = 50 + 40 * row
        canvas.line(24, y, 736, y)
        canvas.text(24, y + 26, name)
        decision = decide(held, alive=alive, request=_REQUEST)
        if isinstance(decision, Refuse):
            canvas.box(
                344, y + 6, 392, 28, [_REFUSALS[decision.reason]], "red" if decision.reason == "unknown" else "amber"
            )
        elif isinstance(decision, Replay):
            canvas.box(344, y + 6, 392, 28, ["the stored response, not executed again"], "blue")
        else:
            canvas.box(344, y + 6, 392, 28, ["the app executes it"], "green")
    return canvas.svg()


def stream() -> str:
    """A stream whose connection is cut twice, and which its reader gets whole."""
    canvas = Canvas(760, 330, "A stream that survives two cuts of its connection")
    left, right = 200, 736
    cuts = (left + 190, left + 370)
    canvas.text(24, 58, "one execution", bold=True)
    canvas.box(left, 36, right - left, 36, ["the app generates; its response is kept while it runs"], "green")
    rows: list[tuple[str, int, int, str, Colour]] = [
        ("first connection", left, cuts[0], "bytes from 0", "blue"),
        ("second connection", cuts[0], cuts[1], "from=1900", "blue"),
        ("third connection", cuts[1], right, "from=3700", "blue"),
    ]
    for number, (name, start, end, label, colour) in enumerate(rows):
        y = 104 + 50 * number
        canvas.text(24, y + 22, name)
        canvas.box(start, y, end - start - (14 if number < 2 else 0), 34, [label], colour)
        if number < 2:
            canvas.cross(end - 4, y + 17)
            canvas.arrow(end + 4, y + 28, end + 4, y + 48)
    canvas.text(cuts[0] + 20, 118, "cut: Retry asks for the bytes that it lacks,", size=13, soft=True)
    canvas.text(cuts[0] + 20, 135, "and any process of the server sends them", size=13, soft=True)
    canvas.text(left, 222, "SHA-256 of what was read must agree,", size=13, soft=True)
    canvas.text(left, 239, "so that no two executions are mixed", size=13, soft=True)
    canvas.text(24, 288, "the reader", bold=True)
    canvas.box(left, 266, right - left, 36, ["one stream, byte for byte the uncut one"], "green")
    return canvas.svg()
