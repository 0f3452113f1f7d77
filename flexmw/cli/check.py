"""``flexmw check URL``: judge an HTTP API by the error contract and the standards of HTTP, from outside.

The command sends invalid requests and reads, each once. None of them makes a server do any work; ``--burst`` and
``--paid`` add requests that do. It follows no redirect, and sends no key except the one of ``--key-env``. The probes
are those of :mod:`flexmw.conformance`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from flexmw.cli.check_reports import counted, json_report, junit_report, listing, sarif_report
from flexmw.conformance.check import Check, Settings, select
from flexmw.conformance.probes import GROUPS
from flexmw.conformance.values import COSTS, Probe, Row
from flexmw.errors import ConfigError

__all__ = ["HELP", "arguments", "command"]

HELP = "judge an HTTP API from outside, by the error contract and the standards of HTTP; exits with 1 if it is broken"
_NARROWEST: Final = 60
_WIDEST: Final = 120


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", nargs="?", help="base URL; /v1 is added where it has no path, its query is sent with each request")
    add("--key-env", metavar="NAME", help="environment variable with an API key to send as a bearer token")
    add("--header", action="append", default=None, metavar="'NAME: VALUE'", help="a header to send with each request")
    add(
        "--route", metavar="'METHOD /PATH'", help="a route that reads a JSON object, in place of POST /chat/completions"
    )
    add("--group", action="append", default=None, metavar="NAME", help=f"only these probes: {', '.join(GROUPS)}")
    add("--burst", action="store_true", help=f"also send {COSTS['burst']}")
    add("--paid", action="store_true", help=f"also send {COSTS['paid']}")
    add("--model", metavar="NAME", help="the model of the valid calls of --paid")
    add("--body", metavar="JSON", help="the body of the valid calls of --paid to --route")
    add("--origin", metavar="URL", help="the origin of the pages that the API admits, for the group cors")
    add("--timeout", type=float, default=10.0, help="seconds for each response")
    add("--patience", type=float, default=180.0, help="seconds to wait for the API's rate limiter, in all")
    add("--json", action="store_true", help="the results as JSON")
    add("--junit", metavar="FILE", help="write the results as JUnit XML")
    add("--sarif", metavar="FILE", help="write the results as SARIF 2.1.0")
    add("--list", action="store_true", help="list the probes, and send nothing")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.list:
        return _list(arguments, out)
    if arguments.url is None:
        raise ConfigError("URL", None, "a URL such as https://api.example.com/v1, or --list")
    progress = _Progress(sys.stderr)
    check = Check(_settings(arguments), progress=progress.show, pause=progress.show_pause)
    with ExitStack() as stack:
        junit, sarif = (_opened(stack, name, getattr(arguments, name)) for name in ("junit", "sarif"))
        (sys.stderr if arguments.json else out).write(f"judging {check.url}, route {check.route}\n")
        rows: list[Row] = []
        is_interrupted = False
        try:
            rows.extend(check.rows())
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            progress.clear()
        if junit is not None:
            junit.write(junit_report(check, rows))
        if sarif is not None:
            sarif.write(sarif_report(check, rows))
    out.write(json_report(check, rows) if arguments.json else _text(check, rows, _width()))
    if is_interrupted:
        sys.stderr.write(f"flexmw: interrupted after {len(rows)} of {len(check.probes)} probes\n")
        return 2
    counts = counted(rows)
    if not counts["passed"] and not counts["failed"]:
        sys.stderr.write(f"flexmw: nothing was judged: {len(rows)} of {len(rows)} probes were skipped\n")
        return 2
    return 1 if counts["failed"] else 0


def _settings(arguments: argparse.Namespace) -> Settings:
    key = None
    if arguments.key_env and not (key := os.environ.get(arguments.key_env)):
        raise ConfigError("--key-env", arguments.key_env, "an environment variable that is set")
    return Settings(
        url=arguments.url,
        key=key,
        headers=arguments.header or (),
        route=arguments.route,
        groups=arguments.group or (),
        burst=arguments.burst,
        paid=arguments.paid,
        model=arguments.model,
        body=arguments.body,
        origin=arguments.origin,
        timeout=arguments.timeout,
        patience=arguments.patience,
    )


def _list(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.url is not None:
        raise ConfigError("--list", arguments.url, "no URL: --list sends nothing")
    probes = select(arguments.group or (), tuple(COSTS))
    if arguments.json:
        out.write(listing(probes))
        return 0
    width = _width()
    for probe in probes:
        out.write(f"{probe.id}  ({probe.cost})\n")
        out.write(_wrapped(f"{probe.asks}  [{probe.source}]", width, "    "))
    return 0


def _opened(stack: ExitStack, option: str, path: str | None) -> TextIO | None:
    """The file of a report, opened before the first request: a run must not be lost to a wrong path."""
    if path is None:
        return None
    try:
        return stack.enter_context(Path(path).open("w", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--{option}", path, f"a file that can be written ({error.strerror})") from error


def _text(check: Check, rows: Sequence[Row], width: int) -> str:
    """The results for people: what passed and failed by group, then what was skipped by reason."""
    lines: list[str] = []
    judged = [row for row in rows if row.state != "skipped"]
    for group in dict.fromkeys(row.probe.group for row in judged):
        lines.append(f"\n{group}\n")
        for row in (row for row in judged if row.probe.group == group):
            lines.append(f"  {row.state}  {row.probe.name}\n")
            if row.state == "failed":
                lines += (_wrapped(note, width, " " * 10) for note in _notes(row))
    skipped = [row for row in rows if row.state == "skipped"]
    lines += ["\nskipped\n"] * bool(skipped)
    for reason in dict.fromkeys("; ".join(row.notes) for row in skipped):
        lines.append(_wrapped(reason, width, "  "))
        ids = (row.probe.id for row in skipped if "; ".join(row.notes) == reason)
        lines.append(_wrapped(", ".join(ids), width, " " * 10))
    return "".join(lines) + "\n" + _summary(check, rows, width)


def _notes(row: Row) -> Iterator[str]:
    yield from row.notes
    yield f"sent: {', '.join(row.exchanges) or 'one request'}"
    yield f"expected: {row.probe.asks}  [{row.probe.source}]"


def _summary(check: Check, rows: Sequence[Row], width: int) -> str:
    counts = counted(rows)
    numbers = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"{numbers}; {check.runner.requests} requests"
    if check.runner.waited:
        text += f", {check.runner.waited:.0f} s of waiting for the rate limiter"
    lines = _wrapped(text, width, "")
    for option, probes in (("--burst", _of_cost(check, "burst")), ("--paid", _of_cost(check, "paid"))):
        if probes:
            lines += _wrapped(f"not sent without {option}: {', '.join(probe.id for probe in probes)}", width, "")
    return lines


def _of_cost(check: Check, cost: str) -> list[Probe]:
    return [probe for probe in check.left_out if probe.cost == cost]


def _wrapped(text: str, width: int, indent: str) -> str:
    filled = textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=True,
        break_on_hyphens=False,
    )
    return filled + "\n"


def _width() -> int:
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((100, 24)).columns))


class _Progress:
    """One line on a terminal that says what is done now. A stream that is no terminal gets one line for each pause."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()

    def show(self, line: str) -> None:
        if self._is_terminal:
            self._write(f"\r\x1b[K{line[: _width() - 1]}")

    def show_pause(self, line: str) -> None:
        if self._is_terminal:
            self.show(line)
        else:
            self._write(f"{line}\n")

    def clear(self) -> None:
        self.show("")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
