"""Pure functions that read foreign text take linear time: four times the input, at most about four times the work.

The promise in SECURITY.md: "No unbounded memory, time or file for any input".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import process_time
from typing import Any

import pytest

from flexmw.contract.bodies import of_text
from flexmw.contract.content import parse
from flexmw.contract.redact import redact
from flexmw.contract.request_secrets import remove_secrets, safe_query, secrets_in
from flexmw.contract.text import contains_text_of, message_in
from flexmw.contract.validation import validation
from flexmw.contract.waits import wait_of
from flexmw.envelope.dialect import OpenAI
from flexmw.envelope.stream import EVENTS
from flexmw.idempotency.key import fingerprint, parse_key
from flexmw.kit.ids import request_id
from flexmw.pace.buckets import classify

READERS: dict[str, Callable[[str], Any]] = {
    "of_text": of_text,
    "parse": lambda text: parse(text.encode(), "application/json; charset=latin-1"),
    "redact": lambda text: redact(text, limit=len(text)),
    "secrets_in": lambda text: secrets_in([("cookie", text), ("authorization", text)], text),
    "remove_secrets": lambda text: remove_secrets(text, ("tok_Q7mZ2LsW9xKpR4vB8nT1", text[:4000])),
    "safe_query": safe_query,
    "contains_text_of": lambda text: contains_text_of(ValueError(text), text),
    "message_in": message_in,
    "validation": lambda text: validation([{"loc": [text] * 3, "msg": text, "type": "value_error", "input": text}]),
    "wait_of": lambda text: wait_of({"retry-after": text, "date": text}, now=0.0),
    "finished": lambda text: OpenAI().finished(text.encode()),
    "cut": lambda text: EVENTS.cut(text.encode()),
    "parse_key": lambda text: parse_key([text.encode()]),
    "fingerprint": lambda text: fingerprint("POST", text, text.encode(), text.encode(), text.encode()),
    "request_id": request_id,
    "classify": lambda text: classify(text, text.encode()),
}

PIECES = ["\n", " ", "a", "://a:", '"', "\\", "[", '{"a":', "a=b;", "%74", 'File "', "event: response.completed ", "1"]


@pytest.mark.parametrize("name", READERS)
def test_the_time_grows_no_faster_than_the_text(name: str) -> None:
    read = READERS[name]

    def seconds(piece: str, size: int) -> float:
        text = "x" + (piece * size)[:size]
        best = 60.0
        for _ in range(3):
            began = process_time()
            with suppress(ValueError):
                read(text)
            best = min(best, process_time() - began)
        return best

    for piece in PIECES:
        # Quadratic work would be 16 times as much. A time below the clock's noise is no growth.
        assert seconds(piece, 32_000) < 9 * seconds(piece, 8_000) + 0.01, piece
