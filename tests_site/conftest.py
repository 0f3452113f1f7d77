"""The built site on a free port, and one headless Chromium that looks at it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.site.__main__ import main
from tests_site.browser import CHROMIUM, Page, opened


class _Quiet(SimpleHTTPRequestHandler):
    """Connections are kept, and so are files: fifty pages share their scripts."""

    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        self.send_header("cache-control", "max-age=600")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site: built by ``tox run -e site``, else now."""
    if built := os.environ.get("FLEXMW_SITE"):
        return Path(built) / "site"
    folder = tmp_path_factory.mktemp("site")
    assert main([str(folder)]) == 0
    return folder / "site"


@pytest.fixture(scope="session")
def origin(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        message = "no chromium on the PATH (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with opened() as tab:
        yield tab
