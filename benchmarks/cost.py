"""``python -m benchmarks.cost``: what one request costs, counted and not timed.

    python -m benchmarks.cost                        # all measures of each path
    python -m benchmarks.cost "POST on redis"        # of one group
    python -m benchmarks.cost --bounds               # the rows of benchmarks/bounds.py, as measured now
    python -m benchmarks.cost --profile httpx Retry  # where the added bytecodes, tasks and commands of a path go
    python -m benchmarks.cost --instructions         # machine instructions, by valgrind: some minutes
    python -m benchmarks.cost --json                 # as tests/test_cost.py reads them

No request goes over a socket but those to a redis. Bytecodes leave out the functions written in C, instructions leave
out the kernel; a figure of either moves only with the code, never with the load of the machine. The bound of every
figure is in ``benchmarks/bounds.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path as File
from types import CodeType
from typing import Any, Final

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.costs import MEASURES, WARM_UP, Cost, SpanCounter, bytecodes, cost_of
from benchmarks.counters import Commits, counted_commits
from benchmarks.keyed_paths import keyed_paths, stream_paths
from benchmarks.paths import Path, Steps, client_paths, server_paths, traced_paths
from benchmarks.peers import redis_server

__all__ = ["main"]

_WARM: Final = 40
"""After so many requests the interpreter has specialized the code: earlier ones cost more instructions."""

CALLS: Final = 20
"""Requests of a path that are counted together by valgrind."""

TIMELESS: Final = ("POST on memory",)
"""Groups of keyed paths whose instructions are counted: those of the others wait for a store."""


async def instructed(paths: Sequence[Path]) -> None:
    """Run under valgrind, which writes its counts at each call of ``getpgid``: see :func:`instructions`."""
    async with AsyncExitStack() as stack:
        every = [await stack.enter_async_context(path.steps()) for path in paths]
        for steps in every:
            await _repeat(steps, _WARM)
        gc.collect()
        gc.disable()  # a collection falls into the requests of one path or another, and costs as much as one of them
        control = ["callgrind_control", "--instr=on", str(os.getpid())]
        subprocess.run(control, check=True, stdout=subprocess.DEVNULL)  # noqa: ASYNC221 - nothing else runs
        for steps in every:
            await _repeat(steps, 1)
            os.getpgid(0)
            await _repeat(steps, CALLS)
            os.getpgid(0)


async def _repeat(steps: Steps, times: int) -> None:
    for _ in range(times):
        if steps.before is not None:
            await steps.before()
        await steps.step()


def instructions(*choice: str) -> list[float]:
    """Machine instructions of a request of each path.

    :param choice: the arguments that chose the paths.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = File(folder) / "counts"
        valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getpgid")
        subprocess.run(
            [
                *valgrind,
                f"--callgrind-out-file={file}",
                sys.executable,
                "-m",
                "benchmarks.cost",
                "--instructed",
                *filter(None, choice),
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        dumps = sorted(File(folder).glob("counts.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [int(re.findall(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)[-1]) for dump in dumps]
    return [total / CALLS for total in totals[1::2]]


def show_instructions(paths: Sequence[Path], costs: Sequence[float]) -> None:
    plain = {path.group: cost for path, cost in zip(paths, costs, strict=True) if path.name == "plain"}
    print(f"{'request':22}{'with':34}{'instructions':>14}{'added':>10}{'/ plain':>9}")
    for path, cost in zip(paths, costs, strict=True):
        base = plain[path.group]
        print(f"{path.group:22}{path.name:34}{cost:>14,.0f}{cost - base:>10,.0f}{cost / base:>9.3f}")


def show(costs: Sequence[tuple[Path, Cost]]) -> None:
    plain = {path.group: cost for path, cost in costs if path.name == "plain"}
    print(f"{'request':22}{'with':34}{'added':>10}" + "".join(f"{name:>11}" for name in MEASURES))
    for path, cost in costs:
        added = cost.bytecodes - plain[path.group].bytecodes
        values = "".join(f"{value:>11,.0f}" for value in cost.to_dict().values())
        print(f"{path.group:22}{path.name:34}{added:>10,}{values}")


def show_bounds(costs: Sequence[tuple[Path, Cost]]) -> None:
    plain = {path.group: cost for path, cost in costs if path.name == "plain"}
    for path, cost in costs:
        if path.name == "plain":
            print(f'    "{path.group}": {cost.bytecodes:_},')
    for path, cost in costs:
        if path.name not in ("plain", "a trace callback"):
            base = plain[path.group]
            values = [f"{cost.bytecodes - base.bytecodes:_}", f"{max(0, cost.peak_bytes - base.peak_bytes):_}"]
            values += [f"{name}={value:.0f}" for name, value in list(cost.to_dict().items())[2:] if value]
            print(f'    ("{path.group}", "{path.name}"): Bound({", ".join(values)}),')


async def profile(path: Path, plain: Path, redis: str | None, commits: Commits, rows: int) -> None:
    """Where a path executes more than the same request without components, and what it asks of others."""
    added = Counter(located(await _bytecodes(path)))
    added.subtract(located(await _bytecodes(plain)))
    print(f"{path.group}, {path.name}: {added.total():,} bytecodes added")
    for place, count in added.most_common(rows):
        if count:
            print(f"{count:>6}  {place}")
    async with path.steps() as steps:
        for _ in range(WARM_UP):
            if steps.before is not None:
                await steps.before()
            await steps.step()
        if steps.before is not None:
            await steps.before()
        names: list[str] = []
        loop = asyncio.get_running_loop()

        def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            names.append(f"task    {coroutine.__qualname__}")
            return asyncio.Task(coroutine, loop=loop, **options)

        statements: list[str] = []
        commits.on_statement = statements.append
        loop.set_task_factory(factory)
        with monitored(redis if path.group.endswith("redis") else None, names):
            await steps.step()
        loop.set_task_factory(None)
        commits.on_statement = None
    print(*names, *(f"sqlite  {' '.join(statement.split())[:100]}" for statement in statements), sep="\n")


class monitored:  # noqa: N801 - used as a context manager
    """Add each command that reaches a redis to a list.

    :param redis: the URL; ``None`` adds nothing.
    """

    def __init__(self, redis: str | None, names: list[str]) -> None:
        self._redis, self._names = redis, names
        self._stack = ExitStack()

    def __enter__(self) -> None:
        if self._redis:
            from redis import Redis

            self._client = self._stack.enter_context(Redis.from_url(self._redis))
            self._monitor = self._stack.enter_context(self._client.monitor())

    def __exit__(self, *error: object) -> None:
        if self._redis:
            self._client.execute_command("GET", "end")
            for entry in self._monitor.listen():
                if entry["command"] == "GET end":
                    break
                if entry["client_type"] != "lua":
                    self._names.append(f"redis   {entry['command'][:100]}")
        self._stack.close()


async def _bytecodes(path: Path) -> Counter[CodeType]:
    async with path.steps() as steps:
        await _repeat(steps, WARM_UP)
        return await bytecodes(steps)


def located(counts: Counter[CodeType]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for code, count in counts.items():
        file = File(code.co_filename)
        found[f"{file.parent.name}/{file.name}:{code.co_firstlineno} {code.co_qualname}"] += count
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", help="a group (httpx, 'POST on redis', GET ...) and the name of a path")
    parser.add_argument("--post", action="store_true", help="clients send a POST instead of a GET")
    parser.add_argument("--profile", action="store_true", help="show where the added cost goes")
    parser.add_argument("--rows", type=int, default=60, help="lines of the profile")
    parser.add_argument("--instructions", action="store_true", help="count machine instructions by valgrind")
    parser.add_argument("--instructed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--redis", help="the URL of a redis; by default one is started where a path needs it")
    parser.add_argument("--no-redis", action="store_true", help="leave out the paths that need a redis")
    parser.add_argument("--bounds", action="store_true", help="print the rows of benchmarks/bounds.py")
    parser.add_argument("--json", action="store_true", help="print all measures as JSON")
    chosen = parser.parse_args()
    group, name = (*chosen.only, "", "")[:2]
    timeless = chosen.instructions or chosen.instructed
    needs_redis = not (timeless or chosen.no_redis or chosen.redis) and group in ("", "POST on redis")
    spans, provider = SpanCounter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)
    with counted_commits() as commits, ExitStack() as stack:
        redis = stack.enter_context(redis_server()) if needs_redis else chosen.redis
        keyed = keyed_paths(None if chosen.no_redis else redis)
        every = [*client_paths("POST" if chosen.post else "GET"), *server_paths(), *traced_paths(provider)]
        if timeless:
            every += [path for path in keyed if path.group in TIMELESS and not path.name.startswith("SDK")]
        else:
            every += [*keyed, *stream_paths()]
        paths = [path for path in every if group in ("", path.group) and path.name in (name or path.name, "plain")]
        if chosen.instructed:
            asyncio.run(instructed(paths))
        elif chosen.instructions:
            executed = instructions(*chosen.only, *(["--post"] if chosen.post else []))
            if chosen.json:
                print(json.dumps([[path.group, path.name, cost] for path, cost in zip(paths, executed, strict=True)]))
            else:
                show_instructions(paths, executed)
        elif chosen.profile:
            plain = {path.group: path for path in every if path.name == "plain"}
            for path in (path for path in paths if path.name != "plain"):
                asyncio.run(profile(path, plain[path.group], redis, commits, chosen.rows))
        else:
            gc.collect()
            gc.freeze()

            async def count() -> list[tuple[Path, Cost]]:
                return [(path, await cost_of(path, redis, commits, spans)) for path in paths]

            costs = asyncio.run(count())
            shown: Callable[[Sequence[tuple[Path, Cost]]], None] = show_bounds if chosen.bounds else show
            if chosen.json:
                print(json.dumps([[path.group, path.name, cost.to_dict()] for path, cost in costs]))
            else:
                shown(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
