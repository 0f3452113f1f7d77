"""The goals of the figures, in one table: what was measured before, what is wanted, and what a floor allows.

A floor is the least that a stand-in with the same promise costs. Every value is a ratio or a count of one run, unless
its unit is named.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.report import Table

__all__ = ["GOALS", "Goal", "goals_table", "middle"]


@dataclass(frozen=True)
class Goal:
    """One row.

    :param title: what is measured, and beside what.
    :param figure: the name of the figure.
    :param before: what was measured when the goal was set.
    :param sign: ``<=`` or ``>=``.
    :param bound: the goal.
    :param floor: the least that is possible, or the most.
    :param digits: digits after the point.
    :param floor_figure: the figure of a stand-in of the same run, which is shown in place of ``floor``.
    """

    title: str
    figure: str
    before: str
    sign: str
    bound: float
    floor: str
    digits: int = 2
    floor_figure: str = ""

    def shown_floor(self, runs: Sequence[Mapping[str, float]]) -> str:
        """The floor as it was measured in some runs, else as it is known."""
        values = [run[self.floor_figure] for run in runs if self.floor_figure in run]
        return " / ".join(f"{value:.{self.digits}f}" for value in values) or self.floor

    def holds(self, value: float) -> bool:
        """Whether a value reaches the goal, rounded as it is shown."""
        value = round(value, self.digits)
        return value <= self.bound if self.sign == "<=" else value >= self.bound


GOALS: Final = (
    Goal(
        "keyed POST on memory: added / what an empty BaseHTTPMiddleware adds",
        "idempotency.memory.1.flexmw.first.added",
        "1.1",
        "<=",
        0.4,
        "0.12",
    ),
    Goal(
        "POST without a key through Idempotency alone / the same",
        "stack.POST.idempotency",
        "0.033",
        "<=",
        0.02,
        "0.006",
        3,
    ),
    Goal(
        "keyed POST on redis, 64 at once: per CPU second / the bare driver's two commands",
        "idempotency.redis.64.flexmw.first.driver",
        "0.11 to 0.23",
        ">=",
        0.5,
        "0.7",
    ),
    Goal(
        "first attempt of an SDK on redis: commands",
        "idempotency.redis.1.flexmw.sdk_first.commands",
        "5",
        "<=",
        3,
        "2",
        0,
    ),
    Goal(
        "first attempt of an SDK on redis, 64 at once: CPU / a keyed POST's",
        "idempotency.redis.64.flexmw.sdk_first.keyed",
        "1.9 to 2.1",
        "<=",
        1.5,
        "1.02",
    ),
    Goal(
        "keyed POST on sqlite, 64 at once, a sync takes 1 ms: per second / two durable transactions in a row",
        "idempotency.synced.64.driver_wall",
        "0.9",
        ">=",
        6,
        "5.2",
        floor_figure="idempotency.synced.64.claims_wall",
    ),
    Goal(
        "POST without a key through the whole stack / an empty BaseHTTPMiddleware",
        "stack.POST.all",
        "0.23",
        "<=",
        0.12,
        "0.05",
    ),
    Goal("GET through the whole stack / the same", "stack.GET.all", "0.13", "<=", 0.10, "0.043"),
    Goal("keyed stream on memory: CPU of a chunk, us", "streams.keyed_chunk_us", "0.8", "<=", 1.0, "0.2"),
    Goal(
        "memory that Idempotency adds to an open keyed stream, beyond what is kept, KiB",
        "streams.open_kib",
        "18",
        "<=",
        12,
        "7",
        1,
    ),
    Goal(
        "RateLimit under uvicorn: requests per CPU second / the bare app's",
        "uvicorn.ratelimit",
        "0.77 to 0.87",
        ">=",
        0.92,
        "0.89",
        floor_figure="uvicorn.by_hand",
    ),
    Goal(
        "RateLimit on memory: a decision at 1,000,000 keys / at one key",
        "scale.memory_keys",
        "2.0",
        "<=",
        1.7,
        "1.8 to 2.1",
        floor_figure="scale.memory_keys_floor",
    ),
    Goal(
        "client with Retry / the plain client",
        "client.retry",
        "1.094",
        "<=",
        1.06,
        "1.05",
        3,
        floor_figure="client.by_hand",
    ),
    Goal(
        "client with Tagging and Retry / the plain client",
        "client.tagging_retry",
        "1.105",
        "<=",
        1.08,
        "1.05",
        3,
        floor_figure="client.by_hand",
    ),
    Goal(
        "telemetry, recording: FastAPI native with Tagging / without",
        "telemetry.recording.fastapi",
        "1.05",
        "<=",
        1.05,
        "1.04",
        3,
        floor_figure="telemetry.recording.fastapi.by_hand",
    ),
    Goal(
        "telemetry, unsampled: the same",
        "telemetry.unsampled.fastapi",
        "1.055",
        "<=",
        1.05,
        "1.05",
        3,
        floor_figure="telemetry.unsampled.fastapi.by_hand",
    ),
    Goal(
        "telemetry, recording: Starlette native, beside Envelope",
        "telemetry.recording.native",
        "1.105",
        "<=",
        1.06,
        "1.065",
        3,
        floor_figure="telemetry.recording.native.by_hand",
    ),
    Goal(
        "telemetry, unsampled: the same",
        "telemetry.unsampled.native",
        "1.105",
        "<=",
        1.06,
        "1.075",
        3,
        floor_figure="telemetry.unsampled.native.by_hand",
    ),
    Goal(
        "telemetry, recording: Starlette native, Tagging alone",
        "telemetry.recording.alone",
        "1.15 to 1.175",
        "<=",
        1.10,
        "1.09",
        3,
        floor_figure="telemetry.recording.alone.by_hand",
    ),
    Goal(
        "telemetry, unsampled: the same",
        "telemetry.unsampled.alone",
        "1.15 to 1.175",
        "<=",
        1.10,
        "1.13",
        3,
        floor_figure="telemetry.unsampled.alone.by_hand",
    ),
)


def goals_table(runs: Sequence[Mapping[str, float]]) -> tuple[Table, int]:
    """The table, and how many goals are missed in at least one run.

    :param runs: the figures of each run.
    """
    rows, missed = [], 0
    for goal in GOALS:
        values = [run[goal.figure] for run in runs if goal.figure in run]
        holds = all(map(goal.holds, values))
        missed += not holds
        shown = " / ".join(f"{value:.{goal.digits}f}" for value in values) or "not measured"
        state = "-" if not values else "yes" if holds else "no"
        rows.append([goal.title, shown, f"{goal.sign} {goal.bound:g}", state, goal.before, goal.shown_floor(runs)])
    columns = ["figure", "measured", "goal", "reached", "before", "floor"]
    return Table("goals", "what one request costs", columns, rows), missed


def middle(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the runs."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}
