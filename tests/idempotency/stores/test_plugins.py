"""Stores of other distributions: found by URL scheme, opened by name, and described when they are broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import flexmw
from flexmw.errors import ConfigError, PluginError
from flexmw.idempotency.stores.open import installed_stores, open_store
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit.entry_points import Plugin
from flexmw.testing.stores import check_store
from flexmw.testing.visit import Visit, http_scope

GOOD = """
from flexmw.errors import ConfigError
from flexmw.idempotency.stores.memory import MemoryStore

opened = []

def open_url(url, options):
    if url.endswith("/"):
        raise ConfigError(options.option, url, "a table, such as 'acme://host/table'")
    opened.append((url, options))
    return MemoryStore(capacity=options.capacity, clock=options.clock)
"""

BLOCKING = """
import pathlib, tempfile
from flexmw.idempotency import StoreOptions, Threaded
from flexmw.idempotency.stores.sqlite import SQLiteStore

def open_url(url: str, options: StoreOptions):
    return Threaded(SQLiteStore(pathlib.Path(url.partition("://")[2]), timeout=options.timeout))
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution that declares a store: a module and a ``.dist-info`` folder, as pip leaves them."""
    monkeypatch.syspath_prepend(tmp_path)
    installed_stores.cache_clear()

    def add(source: str = GOOD, *, scheme: str = "acme", distribution: str = "acme-store") -> None:
        module = distribution.replace("-", "_")
        tmp_path.joinpath(f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        info.joinpath("entry_points.txt").write_text(f"[flexmw.stores]\n{scheme} = {module}:open_url\n")
        installed_stores.cache_clear()

    yield add
    installed_stores.cache_clear()
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


async def works(scope: object, receive: object, send: Callable[..., object]) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})  # type: ignore[misc]
    await send({"type": "http.response.body", "body": b"done"})  # type: ignore[misc]


def refusal(url: str) -> str:
    with pytest.raises(PluginError) as caught:
        open_store(url)
    return str(caught.value)


def test_an_installed_store_serves_an_app_by_the_scheme_of_its_url(install: Install) -> None:
    install()
    component = flexmw.Idempotency(storage="acme://host/table", store_timeout=0.5, capacity=7)
    assert "acme_store" not in sys.modules, "options are checked without an import"
    app = flexmw.wrap_app(works, component)  # type: ignore[arg-type]
    replayed = []
    for _ in range(2):
        visit = Visit(http_scope("POST", [(b"idempotency-key", b"order-1")]))
        anyio.run(visit.run, app)
        replayed.append(dict(visit.headers).get(b"idempotent-replayed"))
    assert replayed == [None, b"true"]
    ((url, options),) = sys.modules["acme_store"].opened
    assert url == "acme://host/table"
    assert (options.option, options.timeout, options.capacity) == ("Idempotency(storage=...)", 0.5, 7)
    assert options.reach


def test_an_installed_store_passes_the_conformance_test(install: Install, tmp_path: Path) -> None:
    install(BLOCKING)
    url = f"ACME://{tmp_path}/acme.db"
    assert isinstance(open_store(url), Threaded)
    assert len(check_store(lambda: open_store(url))) == 22


def test_stores_are_listed_without_an_import(install: Install) -> None:
    install("raise SystemExit('imported')")
    assert Plugin("acme", "acme_store:open_url", "acme-store", "1.2") in installed_stores()
    assert "acme_store" not in sys.modules


def test_the_url_of_an_installed_store_is_checked_by_the_store(install: Install) -> None:
    install()
    with pytest.raises(ConfigError, match=r"storage = 'acme://host/': expected a table"):
        open_store("acme://host/")


def test_an_unknown_scheme_is_refused_with_the_schemes_of_installed_stores(install: Install) -> None:
    install()
    with pytest.raises(ConfigError, match=r"Idempotency\(storage=...\) = 'acne://host'.*one of acme, memory, redis"):
        flexmw.Idempotency(storage="acne://host")


@pytest.mark.parametrize("scheme", ["redis", "sqlite", "valkey+cluster"])
def test_an_installed_store_takes_no_built_in_scheme_over(install: Install, tmp_path: Path, scheme: str) -> None:
    install("raise SystemExit('imported')", scheme=scheme)
    urls = {"sqlite": f"sqlite:///{tmp_path}/keys.db"}
    store = open_store(urls.get(scheme, f"{scheme}://localhost:1"))
    assert type(store).__module__.startswith("flexmw.idempotency.stores.")
    assert "acme_store" not in sys.modules


@pytest.mark.parametrize(
    ("source", "problem", "fix"),
    [
        ("import nonsense", "failed to import: ModuleNotFoundError: No module named 'nonsense'", "Repair or uninstall"),
        ("", "failed to import: AttributeError", "Repair or uninstall"),
        ("open_url = 3", "is not callable", "Repair or upgrade"),
        ("def open_url(url): ...", "failed to open a store: TypeError", "Repair or upgrade"),
        ("def open_url(url, options): raise OSError('no route')", "OSError: no route", "Repair or upgrade"),
        ("def open_url(url, options): return object()", "lacks a method of flexmw.idempotency.Store", "Repair"),
    ],
)
def test_a_broken_store_is_named_with_its_distribution_and_the_remedy(
    install: Install, source: str, problem: str, fix: str
) -> None:
    install(source)
    message = refusal("acme://host")
    assert message.startswith("plugin 'acme' (acme_store:open_url, from acme-store 1.2): ")
    assert problem in message
    assert f"{fix}" in message
    assert "acme-store" in message


def test_two_distributions_with_one_scheme_are_both_named_when_the_option_is_read(install: Install) -> None:
    install()
    install(distribution="acme-other")
    with pytest.raises(PluginError, match=r"claimed by acme-other 1\.2 .* and acme-store 1\.2 .*Uninstall one of them"):
        flexmw.Idempotency(storage="acme://host")


def test_a_broken_store_disturbs_nobody_who_does_not_name_it(install: Install) -> None:
    install("raise RuntimeError('broken')")
    assert flexmw.Idempotency(storage="memory://").asgi(works) is not None  # type: ignore[arg-type]
