"""Do what a start page says, as its reader does: write its files, run its commands, compare what they print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.plugins.test_page import BLOCK, matches, steps
from tests.servers import ROOT
from tests.waiting import LONGEST_WAIT

__all__ = ["PAGES", "follow"]

PAGES = ["README.md", "docs/getting-started.md"]

_ACCEPTS = f"for _ in $(seq {LONGEST_WAIT * 20:.0f}); do (: </dev/tcp/127.0.0.1/PORT) 2>&- && break; sleep 0.05; done"
_ENDED = "code=$?; printf '\\0%s\\0' $code; [ $code = 0 ] || exit"
_INSTALLS = re.compile(r"python3 -m venv |\. \.venv/|pip install ")


def follow(page: str, folder: Path, port: int, *, installs: bool, environ: dict[str, str]) -> int:
    """Follow a page in one shell, and return the number of its commands.

    A block that begins with a comment ``# name`` is a file. A command that ends with ``&`` is a server, which is waited
    for. The lines of a server and of its client are compared in any order.

    :param folder: the empty folder that the reader begins in.
    :param port: used in place of the page's port 8000.
    :param installs: run the commands that make an environment, too.
    """
    script, expected = ["exec 2>&1"], []
    for kind, text in BLOCK.findall((ROOT / page).read_text("utf-8").replace("8000", str(port))):
        if kind == "console":
            for step in steps(text):
                if not installs and _INSTALLS.match(step.command):
                    continue
                is_server = step.command.endswith("&")
                script += [step.command, _ACCEPTS.replace("PORT", str(port)) if is_server else _ENDED]
                if not is_server:
                    expected.append(step)
        elif name := re.match(r"# ([\w.]+)\n", text):
            folder.joinpath(name[1]).write_text(text)
    printed = folder / "printed.txt"
    with printed.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", "\n".join(script)], cwd=folder, env=environ, stdout=output, start_new_session=True
        )
    try:
        shell.wait(10 * LONGEST_WAIT)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)  # a server that the page did not stop
        shell.wait()
    parts = printed.read_text().split("\0")
    for step, text, code in zip(expected, parts[::2], parts[1::2], strict=False):
        assert code == "0", f"$ {step.command} ended with {code}\n{text}"
        if not _INSTALLS.match(step.command):  # pip writes about itself, and about the index
            shown = "\n".join(sorted(text.strip().splitlines()))
            assert matches(sorted(step.output), shown), f"$ {step.command}\n{text}"
    assert len(parts) // 2 == len(expected), parts[-1]
    return len(expected)
