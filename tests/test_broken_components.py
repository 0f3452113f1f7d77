"""A component that cannot work is an error at start, which names the component."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import flexmw
from flexmw.errors import PluginError
from flexmw.kit.entry_points import Plugin, load
from flexmw.registry import component


@dataclass(frozen=True)
class NoApp:
    name: ClassVar[str] = "acme.noapp"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()

    def asgi(self, app: Any) -> Any:
        return None


def test_a_component_whose_asgi_returns_no_app_is_named() -> None:
    with pytest.raises(PluginError, match=r"acme\.noapp.*asgi\(\) returned NoneType"):
        flexmw.wrap_app(lambda scope, receive, send: None, NoApp())  # type: ignore[arg-type, return-value]


def test_a_plugin_that_exits_when_it_is_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"acme-dist.*failed to import: SystemExit: 3"):
        load(Plugin("acme.exits", "acme_exits:Exits", "acme-dist", "1.0"))


def test_a_component_that_exits_when_it_is_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exits(NoApp):
        def __init__(self) -> None:
            sys.exit(4)

    monkeypatch.setattr("flexmw.registry.resolve", lambda name: Exits)
    with pytest.raises(PluginError, match=r"exits when Exits is made \(code 4\)"):
        component("acme.exits")
