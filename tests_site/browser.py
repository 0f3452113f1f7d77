"""Drive a headless Chromium by the DevTools protocol: pages, scripts, sizes, and everything that the console says."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
LONGEST_WAIT = 60.0
"""Seconds for anything that a working browser does at once. A busy machine is no fault of a page."""

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # a container's root may not make namespaces; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Page:
    """One tab.

    :ivar complaints: what the console, the scripts and the network have complained of since :meth:`open`.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._loaded = False
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def resize(self, width: int, height: int) -> None:
        """Show the page as a phone or a desktop of this size does, in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, url: str) -> None:
        """Load a page, and wait for its ``load`` event."""
        self.complaints, self._loaded = [], False
        self._call("Page.navigate", url=url)
        self._receive_until(lambda: self._loaded, f"{url} is loaded")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The first value of the expression that is true."""
        end = time.monotonic() + LONGEST_WAIT
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"not within {LONGEST_WAIT:g} s: {expression}"
            self.run("new Promise(done => setTimeout(done, 20))")
        return value

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self._call("Input.insertText", text=text)

    def picture(self, file: Path) -> None:
        """Write what the tab shows as a PNG file."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        number = self._number
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def _receive_until(self, is_done: Any, what: str) -> None:
        while not is_done():
            assert self._receive() is not None, what

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._connection.recv(timeout=LONGEST_WAIT))
        parameters = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "assert"}:
                self.complaints.append(" ".join(str(argument.get("value", "")) for argument in parameters["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"].get("exception", parameters)))
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":  # a warning may be about slowness
                self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Network.requestWillBeSent" if not _is_own(parameters["request"]["url"]):
                self.complaints.append(f"a request to another origin: {parameters['request']['url']}")
            case _:
                pass
        return dict(message)


def _is_own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))


@contextmanager
def opened() -> Iterator[Page]:
    """A tab of a browser with an empty profile."""
    assert CHROMIUM is not None
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [CHROMIUM, *_SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as browser,
    ):
        try:
            assert browser.stderr is not None
            lines = []
            for line in browser.stderr:  # Chromium says where it listens
                lines.append(line)
                if line.startswith("DevTools listening on "):
                    break
            else:
                raise AssertionError("Chromium has ended:\n" + "".join(lines))
            port = urlsplit(line.split()[-1]).port
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LONGEST_WAIT) as targets:
                tab = next(target for target in json.load(targets) if target["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None, open_timeout=LONGEST_WAIT) as connection:
                yield Page(connection)
        finally:
            browser.kill()
