"""Print ``docs/limit-headers.md`` from the table of forms: ``python -m scripts.limit_headers_page``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from flexmw.contract.limit_forms import FORMS

__all__ = ["page"]

_INTRODUCTION: Final = """# Rate-limit headers that clients read

`Retry` reads how long to wait from the headers of a refusal, `Pace` reads how many requests are left from the headers
of every response. Both read the forms below. This page is made from `flexmw/contract/limit_forms.py`; do not edit it.

## How long to wait after a refusal

1. `retry-after-ms`, `x-ms-retry-after-ms`: milliseconds.
2. `Retry-After` (RFC 9110 section 10.2.3): seconds, also with a fraction, or a date, which is measured against the
   response's own `Date`. A header that came several times counts with its longest wait.
3. The reset of a limit, for a 429 only. With several limits the one whose `remaining` is 0 decides; where none is 0,
   the longest reset decides. A reset of 0 or in the past is no wait: the backoff decides.

## Forms of limits

A number above 1e9 is a Unix time, one above 1e12 a Unix time in milliseconds, a smaller one is seconds.
"""

_END: Final = """
## What is not read

Headers that are not in the table, among them `x-ratelimit-used`, Shopify's `X-Shopify-Shop-Api-Call-Limit`, HubSpot's
`X-HubSpot-RateLimit-*` and Azure's `x-ms-ratelimit-remaining-*`: they name no reset. A row of another prefix in
`FORMS` adds a form to `Retry`, to `Pace` and to this page.

A limit that names its window and no reset (Docker Hub's `;w=21600`, Mistral's `x-ratelimit-limit-req-minute`, an IETF
field without `t`) is enough for `Pace`: it waits for one window at most. `Retry` reads no wait from it.
"""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join((_INTRODUCTION, *_rows(), _END))


def _rows() -> Iterator[str]:
    yield "| Form | Example | Reset | Sent by |"
    yield "|---|---|---|---|"
    for form in FORMS:
        lines = "<br>".join(f"`{name}: {value}`" for name, value in form.example)
        yield f"| {form.name} | {lines} | {form.reset} | {form.senders} |"


if __name__ == "__main__":
    sys.stdout.write(page())
