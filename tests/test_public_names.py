from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flexmw
from tests.waiting import LONGEST_WAIT

LAZY_HEAVY = ["httpx", "httpx2", "redis", "pymemcache", "opentelemetry.sdk", "rich", "uvicorn", "fastapi", "litestar"]
FORMER = {"flexmw.ratelimit.storage"}  # importing one of these warns
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(flexmw.__path__, "flexmw.")
    if "__main__" not in info.name and info.name not in FORMER
)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LONGEST_WAIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", flexmw.__all__)
def test_every_public_name_resolves_and_stays_the_same(name: str) -> None:
    value = getattr(flexmw, name)
    assert value is not None
    assert getattr(flexmw, name) is value
    assert name in dir(flexmw)


def test_public_names_are_sorted_and_listed_once() -> None:
    assert sorted(flexmw.__all__) == flexmw.__all__
    assert len(set(flexmw.__all__)) == len(flexmw.__all__)
    assert dir(flexmw) == sorted(dir(flexmw))


def test_the_design_s_names_are_there() -> None:
    names = """Envelope RateLimit Idempotency Retry Pace Tagging wrap_app wrap_client Stack retry_options APIError
    InvalidRequest ModelNotFound InvalidAPIKey InsufficientCredit JobNotFound RateLimitExceeded UpstreamTimeout
    SubsystemOffline ConfigError PluginError FlexmwError component installed sort Plugin Order Request Flow Send Sleep
    Discard Outcome outcome_of httpx httpx2 send sleep discard read replace follow emit run_blocking Read Replace Follow
    Emit RunBlocking Effect Resume Skip resume skip"""
    assert set(names.split()) <= set(flexmw.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flexmw' has no attribute 'Envelop'"):
        _ = flexmw.Envelop
    with pytest.raises(ImportError, match="cannot import name 'Envelop'"):
        exec("from flexmw import Envelop")


def test_the_bindings_are_modules_of_the_package() -> None:
    for name in ("httpx", "httpx2"):
        module: Any = getattr(flexmw, name)
        assert isinstance(module, ModuleType)
        assert module.__name__ == f"flexmw.{name}"
        assert module.__all__ == ["AsyncStream", "AsyncTransport", "Stream", "Transport"]


def test_the_version_is_that_of_the_distribution() -> None:
    assert flexmw.__version__ == importlib.metadata.version("flexmw")


def test_importing_flexmw_imports_no_client_library_storage_or_sdk() -> None:
    loaded = set(run("import flexmw, sys; print('\\n'.join(sys.modules))").split())
    assert "flexmw.errors" in loaded
    assert not {name for name in loaded for heavy in LAZY_HEAVY if name == heavy or name.startswith(f"{heavy}.")}
    assert not {name for name in loaded if name.startswith(tuple(f"flexmw.{room}" for room in ROOMS))}


ROOMS = ("envelope", "ratelimit", "idempotency", "retry", "tagging", "stack", "registry", "httpx")


@pytest.mark.parametrize(
    "use", ["flexmw.wrap_app(app)", "flexmw.Retry()", "flexmw.ModelNotFound('x')", "flexmw.Stack()"]
)
def test_using_the_server_side_or_a_component_imports_no_client_library(use: str) -> None:
    code = f"import flexmw, sys\nasync def app(scope, receive, send): ...\n{use}\nprint('\\n'.join(sys.modules))"
    loaded = set(run(code).split())
    assert not {name for name in loaded for heavy in LAZY_HEAVY if name == heavy or name.startswith(f"{heavy}.")}


@pytest.mark.parametrize(("library", "other"), [("httpx", "httpx2"), ("httpx2", "httpx")])
def test_wrapping_a_client_of_one_library_does_not_import_the_other(library: str, other: str) -> None:
    code = (
        f"import flexmw, sys, {library}\nflexmw.wrap_client({library}.Client()).close()\nprint('\\n'.join(sys.modules))"
    )
    loaded = set(run(code).split())
    assert f"flexmw.{library}" in loaded
    assert not {other, f"flexmw.{other}", "opentelemetry.sdk"} & loaded


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), "a docstring"
    assert isinstance(module.__all__, list), "__all__"
    for offered in module.__all__:
        assert hasattr(module, offered), offered


@pytest.mark.parametrize("name", ["flexmw", *MODULES])
def test_every_module_postpones_its_annotations(name: str) -> None:
    source = importlib.import_module(name).__file__
    assert source is not None
    tree = ast.parse(Path(source).read_text("utf-8"))
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert [alias.name for node in futures for alias in node.names] == ["annotations"]
