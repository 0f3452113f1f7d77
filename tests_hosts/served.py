"""The app for a server in a process of its own: ``FLEXMW_HOST`` names the framework, ``FLEXMW_FOLDER`` the marks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from tests_hosts.apps import HOSTS
from tests_hosts.work import Work
from tests_hosts.wrapped import wrapped

__all__ = ["app"]

_host: Final = HOSTS[os.environ["FLEXMW_HOST"]]
_plain: Final[Any] = _host.make(Work(Path(os.environ["FLEXMW_FOLDER"])))
app: Final = _plain if os.environ.get("FLEXMW_BARE") else wrapped(_host, _plain)
