"""The bounds of what one request costs: the one table that ``tests/test_cost.py`` holds the paths to.

``python -m benchmarks.cost --bounds`` prints the rows as measured now, for Python 3.11. A change that costs more raises
its row and says why in its commit; a change that costs less lowers it. ``python -m benchmarks.cost --profile GROUP
NAME`` shows where the cost of a path goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["BOUNDS", "INSTRUCTIONS", "MARGIN_OF_RATIOS", "PLAIN", "Bound", "excesses"]


class Bound(NamedTuple):
    """What the components add at most to the same request without them.

    :param bytecodes: bytecodes that the thread of the event loop executes.
    :param peak_bytes: bytes that are allocated at the same time.
    :param commands: commands that reach redis.
    :param commits: durable commits of sqlite.
    :param tasks: tasks that are started.
    :param threads: results that come from another thread.
    :param spans: spans that are recorded, those of the app included.
    """

    bytecodes: int
    peak_bytes: int
    commands: int = 0
    commits: int = 0
    tasks: int = 0
    threads: int = 0
    spans: int = 0


PLAIN: Final[Mapping[str, int]] = {
    "httpx": 18_169,
    "httpx async": 21_483,
    "httpx2": 15_791,
    "httpx2 async": 18_103,
    "GET": 839,
    "POST": 839,
    "GET, recorded": 4_507,
    "httpx, recorded": 26_657,
    "POST on memory": 1_296,
    "POST on sqlite": 1_296,
    "POST on redis": 1_296,
    "stream of 100 chunks": 1_945,
}
"""The bytecodes of the request alone, by group."""

BOUNDS: Final[Mapping[tuple[str, str], Bound]] = {
    ("httpx", "Retry"): Bound(512, 128),
    ("httpx", "Tagging and Retry"): Bound(551, 9),
    ("httpx", "Pace"): Bound(4_796, 0),
    ("httpx async", "Retry"): Bound(608, 0),
    ("httpx async", "Tagging and Retry"): Bound(647, 0),
    ("httpx async", "Pace"): Bound(4_836, 0),
    ("httpx2", "Retry"): Bound(512, 129),
    ("httpx2", "Tagging and Retry"): Bound(551, 72),
    ("httpx2", "Pace"): Bound(4_959, 0),
    ("httpx2 async", "Retry"): Bound(593, 225),
    ("httpx2 async", "Tagging and Retry"): Bound(632, 216),
    ("httpx2 async", "Pace"): Bound(4_981, 712),
    ("GET", "Envelope"): Bound(455, 1_272),
    ("GET", "RateLimit on memory"): Bound(408, 929),
    ("GET", "Idempotency, no key"): Bound(43, 240),
    ("GET", "Tagging without an SDK"): Bound(45, 320),
    ("GET", "all components"): Bound(880, 2_649),
    ("POST", "Envelope"): Bound(455, 1_272),
    ("POST", "RateLimit on memory"): Bound(408, 985),
    ("POST", "Idempotency, no key"): Bound(300, 880),
    ("POST", "Tagging without an SDK"): Bound(45, 320),
    ("POST", "all components"): Bound(1_109, 2_753),
    ("GET, recorded", "Tagging"): Bound(499, 1_152, spans=1),
    ("GET, recorded", "Tagging and Envelope"): Bound(866, 2_176, spans=1),
    ("httpx, recorded", "Tagging and Retry"): Bound(2_594, 3_114, spans=1),
    ("POST on memory", "without a key"): Bound(318, 853),
    ("POST on memory", "first execution"): Bound(3_984, 7_945),
    ("POST on memory", "replay"): Bound(1_209, 0),
    ("POST on memory", "refused duplicate"): Bound(4_613, 1_223),
    ("POST on memory", "SDK, first attempt"): Bound(5_730, 11_128),
    ("POST on memory", "SDK, retry"): Bound(3_329, 910),
    ("POST on memory", "all components, first execution"): Bound(4_775, 9_655),
    ("POST on sqlite", "without a key"): Bound(318, 853),
    ("POST on sqlite", "first execution"): Bound(5_360, 16_479, commits=2, threads=2),
    ("POST on sqlite", "replay"): Bound(2_370, 3_567, threads=1),
    ("POST on sqlite", "refused duplicate"): Bound(5_770, 4_172, threads=1),
    ("POST on sqlite", "SDK, first attempt"): Bound(6_570, 20_894, commits=2, threads=2),
    ("POST on sqlite", "SDK, retry"): Bound(5_350, 5_617, commits=2, threads=3),
    ("POST on redis", "without a key"): Bound(318, 853),
    ("POST on redis", "first execution"): Bound(7_060, 10_918, commands=2),
    ("POST on redis", "replay"): Bound(3_480, 2_698, commands=1),
    ("POST on redis", "refused duplicate"): Bound(6_790, 1_664, commands=1),
    ("POST on redis", "SDK, first attempt"): Bound(8_730, 15_657, commands=2),
    ("POST on redis", "SDK, retry"): Bound(8_840, 4_956, commands=3),
    ("stream of 100 chunks", "without a key"): Bound(1_753, 717),
    ("stream of 100 chunks", "keyed"): Bound(19_421, 38_486, tasks=1),
}
"""What each path adds to it."""

MARGIN: Final = 1.03
MARGIN_OF_RATIOS: Final = 1.15
"""Other versions of Python have other bytecodes. The added ones stay about the same share of the plain ones."""

MARGIN_OF_BYTES: Final = 1.15
SLACK_BYTES: Final = 4_096
"""A dict or a list that happens to grow, and what a thread has not freed yet."""

INSTRUCTIONS: Final[Mapping[tuple[str, str], float]] = {
    ("POST on memory", "without a key"): 0.115,
    ("POST on memory", "first execution"): 2.043,
    ("POST on memory", "replay"): 0.518,
    ("POST on memory", "refused duplicate"): 3.058,
    ("POST on memory", "all components, first execution"): 2.430,
}
"""Machine instructions that are added, by those of the plain request: ``tests_nightly/test_instructions.py``, with
valgrind. They see the functions written in C, which bytecodes leave out."""

PYTHON: Final = (3, 11)
"""The version that the table was measured with."""


def excesses(
    group: str, name: str, cost: Mapping[str, float], plain: Mapping[str, float], version: tuple[int, int]
) -> list[str]:
    """The measures of a path that exceed their bound, as sentences.

    :param cost: the measures of the path.
    :param plain: the measures of the same request without components.
    :param version: the version of Python that has measured them.
    """
    bound, found = BOUNDS[group, name], list[str]()
    for measure, limit in bound._asdict().items():
        value = cost[measure]
        allowed: float = limit
        if measure == "bytecodes":
            value -= plain[measure]
            share = 1.0 if version == PYTHON else plain[measure] / PLAIN[group]
            allowed = limit * share * (MARGIN if version == PYTHON else MARGIN_OF_RATIOS)
        elif measure == "peak_bytes":
            value -= plain[measure]
            allowed = limit * MARGIN_OF_BYTES + SLACK_BYTES
        if value > allowed:
            found.append(
                f"{group}, {name}: {measure} = {value:,.0f}, bound {limit:,} (allowed {allowed:,.0f}). "
                f"Where it goes: python -m benchmarks.cost --profile '{group}' '{name}'. "
                "A cost that is meant raises the row in benchmarks/bounds.py, and the commit says why."
            )
    return found
