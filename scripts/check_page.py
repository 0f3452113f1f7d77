"""Write the tables of ``docs/check.md``: ``python -m scripts.check_page``.

The table of probes is made from :data:`flexmw.conformance.probes.PROBES`. The table of results is made from
``docs/check.json``, which ``python -m benchmarks.check_peers`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from flexmw.conformance.probes import PROBES
from scripts.marked import filled

__all__ = ["COMMAND", "PAGE", "RESULTS", "main", "written"]

COMMAND: Final = "python -m scripts.check_page"
PAGE: Final = Path(__file__).parent.parent / "docs" / "check.md"
RESULTS: Final = PAGE.with_name("check.json")
_SIGNS: Final = {"passed": "yes", "failed": "**no**", "skipped": "-"}


def probes() -> Iterator[str]:
    yield "| probe | cost | what is sent, and what passes | source |"
    yield "|---|---|---|---|"
    for probe in PROBES:
        yield f"| `{probe.id}` | {probe.cost} | {probe.asks} | {probe.source} |"


def results() -> Iterator[str]:
    servers: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8"))["servers"]
    yield f"| probe | {' | '.join(server['name'] for server in servers)} |"
    yield f"|---|{'---|' * len(servers)}"
    yield f"| version | {' | '.join(server['version'] for server in servers)} |"
    for probe in PROBES:
        cells = [_SIGNS.get(server["states"].get(probe.id, ""), "") for server in servers]
        yield f"| `{probe.id}` | {' | '.join(cells)} |"
    totals = [list(server["states"].values()) for server in servers]
    for state in _SIGNS:
        yield f"| {state} | {' | '.join(str(states.count(state)) for states in totals)} |"


def written(page: str) -> str:
    """The page with both tables as the code and the results have them.

    :raises ValueError: the page lacks the place of a table.
    """
    for title, rows in (("probes", probes), ("results", results)):
        begin, end = f"<!-- The {title}, written by {COMMAND} -->", f"<!-- End of the {title} -->"
        page = filled(page, begin, end, "\n".join(rows()), name=PAGE.name)
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
