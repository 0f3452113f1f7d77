#!/usr/bin/env bash
# httpx-sse returns a comment as an event without data.
# Expected: an event whose data is empty is not dispatched (HTML standard, section 9.2.6): comments, which servers send
# to keep a connection open, and a block that has only `retry:` are no events.
# Seen: after the first event that has an id, each of them is an event named "message" with that id and the data "",
# on which json.loads fails. Before the first id, a comment is no event. sseclient-py reads the same stream as stated.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-sse==0.4.3' 'httpx==0.28.1' 'sseclient-py==1.9.0'
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import httpx
import httpx_sse
import sseclient

STREAM = b': ping\n\nid: 1\ndata: {"text": "one"}\n\n: ping\n\nretry: 3000\n\nid: 2\ndata: {"text": "two"}\n\n'
HEADERS = {"content-type": "text/event-stream"}
transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=HEADERS, content=STREAM))
with httpx.Client(transport=transport) as client:
    with httpx_sse.connect_sse(client, "GET", "http://shop.example") as source:
        seen = [(event.id, event.data) for event in source.iter_sse()]
other = [(event.id, event.data) for event in sseclient.SSEClient(iter([STREAM])).events()]
print(f"httpx-sse {version('httpx-sse')}: {seen}; sseclient-py {version('sseclient-py')}: {other}")
events = [("1", '{"text": "one"}'), ("2", '{"text": "two"}')]
as_stated = other == events and seen == [events[0], ("1", ""), ("1", ""), events[1]]
raise SystemExit(0 if as_stated else "changed: comments are no events")
PYTHON
