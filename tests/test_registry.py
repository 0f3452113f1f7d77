from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flexmw
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit import entry_points
from flexmw.kit.component import API, Order
from flexmw.registry import BUILT_IN, Plugin, check_order, component, installed, resolve, sort

GOOD = """
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar
import flexmw
from flexmw.kit.options import check, option, text

@dataclass(frozen=True, kw_only=True)
class Audit:
    name: ClassVar[str] = "acme.audit"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(after=("envelope",))
    header: str = option("x-audit", text)
    pepper: str = option("", secret=True)
    __post_init__ = check

    def flow(self, request):
        return (yield flexmw.Send(request))

class Outer:
    Inner = Audit
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution: a module and a ``.dist-info`` directory, as an installer leaves them."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def add(
        source: str | None = GOOD,
        *,
        name: str = "acme.audit",
        module: str = "acme_audit",
        target: str = "acme_audit:Audit",
        distribution: str = "acme-audit",
        version: str = "1.2",
        group: str = "flexmw.components",
    ) -> None:
        if source is not None:
            (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
        installed.cache_clear()

    yield add
    installed.cache_clear()
    for left in set(sys.modules) - before:
        if left.startswith("acme"):
            del sys.modules[left]


def fault(name: str) -> str:
    with pytest.raises(PluginError) as caught:
        resolve(name)
    return str(caught.value)


# --- entry points ----------------------------------------------------------------------------------------------------


def test_listing_says_what_is_declared_and_imports_nothing(install: Install) -> None:
    install("raise SystemExit('imported')")
    install(
        "import nonsense",
        name="acme.other",
        module="acme_other",
        target="acme_other:X",
        distribution="acme-zeta",
        version="0.1",
    )
    install(GOOD, name="acme.page", group="flexmw.dialects", distribution="acme-page", module="acme_page")
    ours = [plugin for plugin in installed() if plugin.name.startswith("acme")]
    assert ours == [
        Plugin("acme.audit", "acme_audit:Audit", "acme-audit", "1.2"),
        Plugin("acme.other", "acme_other:X", "acme-zeta", "0.1"),
    ]
    assert not [name for name in sys.modules if name.startswith("acme")]


def test_listing_is_in_the_order_of_names_and_scans_once(install: Install) -> None:
    for name in ("acme.c", "acme.a", "acme.b"):
        install(None, name=name, distribution=name.replace(".", "-"))
    names = [plugin.name for plugin in installed() if plugin.name.startswith("acme")]
    assert names == ["acme.a", "acme.b", "acme.c"]
    assert installed() is installed()


@pytest.mark.parametrize("damage", ["[flexmw.components]\nacme.half\n", "[console_scripts]\nhalf\n"])
def test_a_damaged_neighbour_is_named_and_leaves_the_other_plugins_working(
    damage: str,
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install()
    neighbour = tmp_path / "neighbour-3.0.dist-info"
    neighbour.mkdir()
    (neighbour / "METADATA").write_text("Metadata-Version: 2.1\nName: neighbour\nVersion: 3.0\n")
    (neighbour / "entry_points.txt").write_text(damage)
    monkeypatch.setattr(entry_points, "_reported", set())
    installed.cache_clear()
    assert [plugin.name for plugin in installed() if plugin.name.startswith("acme")] == ["acme.audit"]
    assert component("acme.audit", header="x-a").header == "x-a"
    (record,) = caplog.records
    assert "neighbour 3.0" in record.getMessage()


def test_only_what_is_named_is_loaded(install: Install) -> None:
    install()
    install("raise RuntimeError", name="acme.bad", module="acme_bad", target="acme_bad:X", distribution="acme-bad")
    made = component("acme.audit", header="x-mine")
    assert (made.name, made.header) == ("acme.audit", "x-mine")  # type: ignore[attr-defined]
    assert "acme_bad" not in sys.modules


def test_an_attribute_can_lie_deeper(install: Install) -> None:
    install(target="acme_audit:Outer.Inner")
    assert resolve("acme.audit").__name__ == "Audit"


def test_a_name_that_nothing_provides_is_an_unknown_component_with_a_guess(install: Install) -> None:
    install()
    with pytest.raises(
        UnknownComponent, match=r"Did you mean 'acme\.audit'\? Known: .*acme\.audit.*envelope"
    ) as caught:
        component("acme.audi")
    assert isinstance(caught.value, ConfigError)
    with pytest.raises(UnknownComponent, match="Did you mean 'ratelimit'"):
        component("ratelimits")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (None, "acme_audit:Audit", "failed to import: ModuleNotFoundError: No module named 'acme_audit'"),
        (
            "import nonsense_xyz",
            "acme_audit:Audit",
            "failed to import: ModuleNotFoundError: No module named 'nonsense_xyz'",
        ),
        ("1/0", "acme_audit:Audit", "failed to import: ZeroDivisionError: division by zero"),
        ("def", "acme_audit:Audit", "failed to import: SyntaxError"),
        (GOOD, "acme_audit:Audti", "failed to import: AttributeError: module 'acme_audit' has no attribute 'Audti'"),
        (GOOD, "acme_audit:Outer.Nothing", "failed to import: AttributeError"),
    ],
)
def test_a_plugin_that_does_not_import_names_itself_and_the_cure(
    install: Install, source: str | None, target: str, message: str
) -> None:
    install(source, target=target)
    said = fault("acme.audit")
    assert said.startswith(f"plugin 'acme.audit' ({target}, from acme-audit 1.2): {message}")
    assert said.endswith("Repair or uninstall acme-audit, or do not name it")


def test_a_secret_in_an_import_error_is_masked(install: Install) -> None:
    install("raise RuntimeError('cannot reach redis://:hunter2@cache')")
    assert "hunter2" not in fault("acme.audit")


BODY = "class Audit:\n    {}\n    def flow(self, request): yield\n"


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "Audit = 3",
            "acme_audit:Audit",
            "is no class. Its author should let the entry point name the component's class",
        ),
        ("def Audit(): ...", "acme_audit:Audit", "is no class"),
        (GOOD, "acme_audit", "is no class"),
        (
            BODY.format("name = 'a'"),
            "acme_audit:Audit",
            r"has no `api` version (api = None). Its author should declare `api: ClassVar[int] = 1`",
        ),
        (BODY.format("name = 'a'; api = '1'"), "acme_audit:Audit", "has no `api` version (api = '1')"),
        (
            BODY.format("name = 'a'; api = 2"),
            "acme_audit:Audit",
            "needs component API 2; this flexmw speaks 1 to 1. Upgrade flexmw",
        ),
        (
            BODY.format("name = 'a'; api = 0"),
            "acme_audit:Audit",
            "speaks component API 0; this flexmw needs at least 1. Upgrade the plugin",
        ),
        (BODY.format("api = 1"), "acme_audit:Audit", "has no `name`. Its author should declare `name: ClassVar[str]`"),
        (BODY.format("api = 1; name = 3"), "acme_audit:Audit", "has no `name`"),
        (
            BODY.format("api = 1; name = 'a'; order = ('envelope',)"),
            "acme_audit:Audit",
            "has an `order` that is none. Its author should declare",
        ),
        (
            "class Audit:\n    api = 1; name = 'a'",
            "acme_audit:Audit",
            "has neither side. Its author should give it an `asgi` or a `flow` method",
        ),
        ("class Audit:\n    api = 1; name = 'a'; asgi = flow = 3", "acme_audit:Audit", "has neither side"),
    ],
)
def test_what_is_no_component_says_why_and_who_should_do_what(
    install: Install, source: str, target: str, message: str
) -> None:
    install(source, target=target)
    assert f"plugin 'acme.audit' ({target}, from acme-audit 1.2): {message}" in fault("acme.audit")


@pytest.mark.parametrize("side", ["asgi", "flow"])
def test_one_side_is_enough(install: Install, side: str) -> None:
    install(f"class Audit:\n    api = 1; name = 'a'\n    def {side}(self, x): ...")
    assert resolve("acme.audit").name == "a"


def test_a_name_that_two_distributions_claim_names_both(install: Install) -> None:
    install()
    install(None, distribution="zeta-audit", version="3", target="zeta:Audit")
    assert fault("acme.audit") == (
        "plugin 'acme.audit': claimed by acme-audit 1.2 (acme_audit:Audit) and zeta-audit 3 (zeta:Audit)."
        " Uninstall one of them"
    )
    assert "acme_audit" not in sys.modules


def test_one_distribution_that_is_found_twice_is_one_claim(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, f"{tmp_path}/."])
    installed.cache_clear()
    assert resolve("acme.audit").__name__ == "Audit"


def test_an_entry_point_cannot_shadow_a_built_in_name(install: Install) -> None:
    install(name="retry")
    assert resolve("retry") is flexmw.Retry
    assert "acme_audit" not in sys.modules


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_name_is_a_component_of_that_name(name: str) -> None:
    cls: Any = resolve(name)
    assert (cls.name, cls.api) == (name, API)
    assert isinstance(cls.order, Order)
    assert hasattr(cls, "asgi") or hasattr(cls, "flow")


# --- options ---------------------------------------------------------------------------------------------------------


def test_an_option_that_does_not_exist_names_those_that_do(install: Install) -> None:
    install()
    with pytest.raises(ConfigError, match=r"acme\.audit: option = 'headr': expected one of header, pepper"):
        component("acme.audit", headr="x")


def test_a_value_that_does_not_fit_is_the_component_s_own_error(install: Install) -> None:
    install()
    with pytest.raises(ConfigError, match=r"Audit\(header=\.\.\.\) = 3: expected a text that is not empty"):
        component("acme.audit", header=3)


CLASS = "class Audit:\n    api = 1; name = 'a'\n    def flow(self, request): yield\n    def __init__(self{}): {}\n"


def test_a_component_without_options_says_so(install: Install) -> None:
    install(CLASS.format("", "pass"))
    with pytest.raises(ConfigError, match=r"acme\.audit: option = 'x': expected no options"):
        component("acme.audit", x=1)


def test_a_component_may_take_any_options(install: Install) -> None:
    install(CLASS.format(", **options", "self.options = options"))
    assert component("acme.audit", x=1).options == {"x": 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", ["TypeError", "ValueError"])
def test_what_a_component_refuses_in_its_own_words_becomes_a_config_error(install: Install, error: str) -> None:
    install(CLASS.format(", n, other=1", f"raise {error}('not sk-abcdefgh')"))
    with pytest.raises(
        ConfigError, match=r"acme\.audit\(\.\.\.\) = .*: expected options that Audit takes \(not sk-\*\*\*\)"
    ):
        component("acme.audit", n=1)
    with pytest.raises(ConfigError, match=r"missing 1 required positional argument: 'n'"):
        component("acme.audit", other=1)


def test_a_secret_option_is_masked_when_another_is_refused(install: Install) -> None:
    install(GOOD.replace("__post_init__ = check", "def __post_init__(self): raise ValueError('no')"))
    with pytest.raises(ConfigError) as caught:
        component("acme.audit", pepper="hunter2", header="x-a")
    assert "hunter2" not in str(caught.value)
    assert "'header': 'x-a'" in caught.value.value


def test_any_other_error_of_a_component_is_its_own(install: Install) -> None:
    install(CLASS.format("", "raise RuntimeError('mine')"))
    with pytest.raises(RuntimeError, match="mine"):
        component("acme.audit")


# --- order -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    name: str
    order: Order
    mark: int = 0
    api: ClassVar[int] = API

    def flow(self, request: Any) -> Any:
        yield


def part(name: str, *, after: tuple[str, ...] = (), before: tuple[str, ...] = (), mark: int = 0) -> Any:
    return Part(name, Order(after=after, before=before), mark)


NAMES = "abcdef"


@st.composite
def parts(draw: st.DrawFn) -> list[Any]:
    """Parts whose orders agree with one hidden order; a name may come twice."""
    hidden = draw(st.permutations(NAMES))
    place = {name: at for at, name in enumerate(hidden)}
    made = []
    for mark, name in enumerate(draw(st.lists(st.sampled_from(NAMES), max_size=8))):
        others = draw(st.lists(st.sampled_from([*NAMES, "absent"]), max_size=3))
        after = tuple(other for other in others if place.get(other, -1) < place[name])
        before = tuple(other for other in others if place.get(other, 99) > place[name])
        made.append(part(name, after=after, before=before, mark=mark))
    return made


def first(components: list[Any], name: str) -> int:
    return [each.name for each in components].index(name)


def satisfied(components: list[Any]) -> bool:
    there = {each.name for each in components}
    return all(
        first(components, outer) < first(components, inner)
        for each in components
        for outer, inner in [
            *((outer, each.name) for outer in each.order.after),
            *((each.name, inner) for inner in each.order.before),
        ]
        if {outer, inner} <= there and outer != inner
    )


@given(components=parts())
def test_sorting_keeps_every_component_and_satisfies_every_order(components: list[Any]) -> None:
    done = sort(components)
    assert sorted(done, key=lambda each: each.mark) == components
    assert satisfied(done)
    check_order(done)


@given(components=parts())
def test_sorting_changes_nothing_that_is_right_already(components: list[Any]) -> None:
    done = sort(components)
    assert sort(done) == done
    if not any(each.order != Order() for each in components):
        assert done == components


@given(components=parts())
def test_checking_accepts_exactly_what_satisfies_every_order(components: list[Any]) -> None:
    if satisfied(components):
        check_order(components)
    else:
        with pytest.raises(ConfigError) as caught:
            check_order(components)
        assert caught.value.option == "order of components (outermost first)"
        right = ", ".join(each.name for each in sort(components))
        assert str(caught.value).endswith(f"right is: {right}")


def test_what_nothing_asks_for_stays_where_it_was() -> None:
    a, b, c = part("a"), part("b"), part("c", before=("a",))
    assert sort([b, a, c]) == [b, c, a]
    assert sort([a, b, a]) == [a, b, a]
    assert sort(iter([c, b])) == [c, b]
    assert sort([]) == []


def test_a_wrong_order_names_the_two_and_the_right_order() -> None:
    with pytest.raises(ConfigError) as caught:
        check_order([part("ratelimit", after=("envelope",)), part("envelope")])
    assert str(caught.value) == (
        "order of components (outermost first) = 'ratelimit, envelope': "
        "expected 'envelope' outside 'ratelimit'; right is: envelope, ratelimit"
    )


def test_a_component_without_the_one_that_it_needs_is_refused() -> None:
    needy: Any = SimpleNamespace(name="acme.fallback", order=Order(before=("retry",), needs=("retry",)))
    check_order([needy, part("retry")])
    with pytest.raises(ConfigError, match=r"'retry' too: 'acme\.fallback' has no effect without it"):
        check_order([needy])


@pytest.mark.parametrize("do", [sort, check_order])
def test_a_cycle_is_named(do: Callable[[Any], Any]) -> None:
    ring = [part("a", after=("c",)), part("b", after=("a",)), part("c", after=("b",))]
    with pytest.raises(ConfigError, match="no cycle: change the `order` of one of them") as caught:
        do(ring)
    names = caught.value.value.strip("'").split(" outside ")
    assert names[0] == names[-1]
    assert len(names) == 4
    assert all((outer, inner) in [("c", "a"), ("a", "b"), ("b", "c")] for outer, inner in pairwise(names))


def test_a_component_that_names_itself_or_has_no_order_is_no_problem() -> None:
    check_order([part("a", after=("a",), before=("a",))])
    nameless: Any = SimpleNamespace()
    check_order([nameless, part("b", after=("SimpleNamespace",))])
    with pytest.raises(ConfigError):
        check_order([part("b", after=("SimpleNamespace",)), nameless])


@pytest.mark.parametrize("names", ["envelope", ["envelope"], (1,), None])
@pytest.mark.parametrize("side", ["after", "before"])
def test_an_order_that_is_no_tuple_of_names_is_refused_and_not_ignored(side: str, names: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Order\({side}=\.\.\.\) = .*: expected a tuple of component names"):
        Order(**{side: names})


def test_a_bare_name_that_nothing_has_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexmw.registry._reported", set())
    cors, misspelt = part("cors"), part("acme.misspelt", after=("envelop", "cors"))
    for _ in range(2):
        check_order([cors, misspelt, part("acme.right", after=("envelope", "acme.absent"))])
    assert [record.name for record in caplog.records] == ["flexmw.plugins"]
    assert "component 'acme.misspelt'" in caplog.text
    assert "did you mean 'envelope'?" in caplog.text
