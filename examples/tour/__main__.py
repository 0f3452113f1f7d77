"""``python -m examples.tour``: the contract's page, row by row, played against the gateway with the real openai SDK.

Starts the model backend and the gateway on loopback, plays each scene with the blocking and with the async SDK, and
shows what was sent, what was raised, how often the backend worked and what the span says. Then one POST whose
response is lost, one streamed response whose connection is cut eleven times, and calls that the first of two backends
refuses or loses. Exits with 1 if anything is not as it should be.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec

from rich import box
from rich.console import Console
from rich.table import Table

from examples.gateway.serve import Backend, Running, backend, gateway
from examples.tour.acts import Note, Spans, play
from examples.tour.lost import Loss, lose_answers
from examples.tour.refused import ORDERS, ask_two
from examples.tour.scenes import SCENES, Scene
from examples.tour.streamed import CUTS, cut_streams

__all__ = ["main"]

WIDTH = 100
"""Columns of a terminal that does not say how wide it is."""

EXPECTED = {(False, False): 3, (False, True): 1, (True, False): 1, (True, True): 1}


def main() -> int:
    """Play everything; the number of things that are not right.

    :raises SystemExit: the plugin that the last table needs is not installed.
    """
    if find_spec("flexmw_fallback") is None:
        raise SystemExit("the tour needs a plugin: pip install ./plugins/flexmw-fallback, or run `tox run -e tour`")
    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console() if has_width else Console(width=WIDTH, no_color=True)
    logging.disable(logging.ERROR)  # the hosts report the failures that are ordered here; the tables show them
    spans = Spans()
    faults = 0
    with backend() as models, gateway(models.url, timeout=0.5) as running:
        console.print(f"gateway {running.url}, its model backend {models.url}\n")
        shown = [column for column in ROW_COLUMNS if console.width >= WIDE or column not in WIDE_COLUMNS]
        rows = table("The contract, row by row", *shown)
        with console.status("starting") as status:
            for number, scene in enumerate(SCENES, 1):
                status.update(f"scene {number} of {len(SCENES)}: {scene.what}")
                note, twin = (play(scene, running, models, spans, use_async=use) for use in (False, True))
                faults += (note.sent, note.raised) != (twin.sent, twin.raised)
                cells = dict(zip(ROW_COLUMNS, row(scene, note, twin), strict=True))
                rows.add_row(*(cells[column] for column in shown))
        console.print(rows)
        losses = table("One POST whose response is lost twice", "client", "server", "executions", "ended")
        with console.status("losing responses"):
            for number, loss in enumerate(lose_answers(running, models)):
                expected = tuple(EXPECTED.values())[number]
                faults += loss.executions != expected
                losses.add_row(*lost_row(loss, expected))
        console.print(losses)
        faults += show_streams(console, running, models)
        faults += show_refusals(console, models)
    console.print(f"{faults} things are not as they should be." if faults else "All as the contract says.")
    return min(faults, 1)


def show_streams(console: Console, running: Running, models: Backend) -> int:
    """Cut streams, draw them while they run, and show what came of them; the number of things that are not right."""
    faults = 0
    columns = ("client", "server", "cuts", "events", "executed", "silence", "ended")
    streams = table(f"One streamed response, its connection cut up to {CUTS} times", *columns)
    with console.status("cutting streams") as status:
        drawn = ""

        def draw(name: str, events: int, cuts: int) -> None:
            nonlocal drawn
            drawn = "" if events == 1 else drawn
            drawn += "x" * (cuts - drawn.count("x")) + ("-" if events % 4 == 0 else "")
            status.update(f"{name}: {events} events, {cuts} cuts [bold]{drawn}[/bold]")

        for number, stream in enumerate(cut_streams(running, models, draw)):
            is_whole = number == 2
            as_it_should = stream.executions == 1 and (stream.ended == "whole") == is_whole
            faults += not (as_it_should and (stream.cuts == CUTS or not is_whole))
            streams.add_row(
                stream.client,
                stream.server,
                str(stream.cuts),
                str(stream.events),
                str(stream.executions),
                f"{stream.silence:.2f} s",
                stream.ended if as_it_should else f"{stream.ended} (not as it should be)",
            )
    console.print(streams)
    return faults


def show_refusals(console: Console, models: Backend) -> int:
    """Let the first of two backends fail, and show who has executed and what was billed; the number of things that are
    not right."""
    faults = 0
    columns = ("the first", "executions", "by the second", "billed", "ended")
    refusals = table("One POST, two backends", *columns)
    with console.status("refusing"):
        for refusal, (_, expected) in zip(ask_two(models), ORDERS.values(), strict=True):
            as_it_should = refusal.executions == expected and refusal.billed == refusal.owed
            faults += not as_it_should
            first, second = refusal.executions
            ended = refusal.ended if as_it_should else f"{refusal.ended} (not as it should be)"
            refusals.add_row(refusal.first, str(first + second), str(second), f"${refusal.billed / 1e6:.6f}", ended)
    console.print(refusals)
    return faults


WIDE = 160
"""Columns of a terminal in which the whole table of the contract fits."""

WIDE_COLUMNS = frozenset({"headers", "took", "span"})
ROW_COLUMNS = ("row", "what", "sent: status type code", "headers", "SDK raised", "work", "took", "span", "async")


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def row(scene: Scene, note: Note, twin: Note) -> tuple[str, ...]:
    sent = f"{note.status} {note.type}\n{note.code}{f' (param {note.param})' if note.param else ''}"
    return (
        scene.row,
        scene.what,
        sent if note.type else str(note.status),
        "\n".join(note.headers),
        note.raised or "-",
        str(note.worked),
        f"{note.waited:.2f} s",
        note.span,
        "same" if twin.sent == note.sent and twin.raised == note.raised else f"differs: {twin.sent}",
    )


def lost_row(loss: Loss, expected: int) -> tuple[str, ...]:
    mark = "" if loss.executions == expected else f" (expected {expected})"
    return loss.client, loss.server, f"{loss.executions}{mark}", loss.ended


if __name__ == "__main__":
    raise SystemExit(main())
