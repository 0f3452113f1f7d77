from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flexmw.config import read
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.component import Order
from flexmw.kit.options import check, option, optional, several, text, whole

Write = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Audit:
    name: ClassVar[str] = "acme.audit"
    api: ClassVar[int] = 1
    order: ClassVar[Order] = Order()
    header: str = option("x-audit", text)
    limit: int = option(1, whole(least=1))
    rates: tuple[str, ...] = option((), several(text))
    table: Any = option(None)
    pepper: str | None = option(None, optional(text), secret=True)
    __post_init__ = check

    def flow(self, request: Any) -> Any:
        yield


def make(name: str, **options: Any) -> Any:
    if name == "broken":
        raise PluginError(name, "is broken", fix="Repair it")
    if name == "other":
        return Audit(**options)
    if name != "acme.audit":
        raise UnknownComponent(name, ["acme.audit", "other"])
    for each in options:
        if each not in Audit.__dataclass_fields__:
            raise ConfigError(f"{name}: option", each, "one of header, limit")
    return Audit(**options)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "flexmw.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def fault(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(path, make)
    return caught.value


def test_tables_become_components_in_their_order(write: Write) -> None:
    path = write('[other]\nlimit = 2\n["acme.audit"]\nheader = "x"\nrates = ["a", "b"]\n[other.table]\na = 1\n')
    assert read(path, make) == [Audit(limit=2, table={"a": 1}), Audit(header="x", rates=("a", "b"))]
    assert read(str(path), make)[1].header == "x"  # type: ignore[attr-defined]


def test_a_list_of_tables_is_one_component_each(write: Write) -> None:
    assert read(write("[[other]]\nlimit = 2\n[[other]]\nlimit = 3\n"), make) == [Audit(limit=2), Audit(limit=3)]


def test_in_pyproject_only_the_tool_s_own_table_counts(write: Write) -> None:
    text = '[project]\nname = "x"\n[tool.other]\nlimit = 9\n[tool.flexmw.other]\nlimit = 2\n'
    assert read(write(text, "pyproject.toml"), make) == [Audit(limit=2)]


def test_a_value_inside_a_list_of_tables_comes_from_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXMW_TEST_TOKEN", "secret")
    path = write('[other]\ntable = [{ url = "a", headers = { x = { env = "FLEXMW_TEST_TOKEN" } } }]\n')
    expected: Any = ({"url": "a", "headers": {"x": "secret"}},)
    assert read(path, make) == [Audit(table=expected)]


def test_a_value_comes_from_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_TEST_HEADER", "x-env")
    path = write('[other]\nheader = { env = "FLEXMW_TEST_HEADER" }\ntable = { env = "A", more = 1 }\n')
    assert read(path, make) == [Audit(header="x-env", table={"env": "A", "more": 1})]


def test_a_variable_that_is_empty_is_set(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_TEST_HEADER", "")
    assert "Audit(header=...) = '': expected a text that is not empty" in str(
        fault(write('[other]\nheader = { env = "FLEXMW_TEST_HEADER" }\n'))
    )


@pytest.mark.parametrize("value", ['"FLEXMW_TEST_UNSET"', "3"])
def test_a_variable_that_is_not_set_names_table_key_variable_file_and_line(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.delenv("FLEXMW_TEST_UNSET", raising=False)
    path = write(f"[other]\n\nlimit = 2\nheader = {{ env = {value} }}\n")
    shown = value.replace('"', "'")
    assert str(fault(path)) == (f"{path}, line 4: other.header = {shown}: expected an environment variable that is set")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[other]\nlimit = 0\n", 2),
        ("# a comment\n\n[ other ]  # limit = 1\n# e.g. limit = 5\nlimit = 0\n", 5),
        ("['other']\nlimit = 0\n", 2),
        ('["other"]\n"limit" = 0\n', 2),
        ("other = { limit = 0 }\n", 1),
        ("\nother.limit = 0\n", 2),
        ('[other]\nheader = "limit"\n\n  limit=0\n', 4),
        ("[[other]]\nlimit = 1\n[[other]]\nheader = 'x'\nlimit = 0\n", 5),
        ('[["acme.audit"]]\nlimit = 1\n["other"]\nlimit = 0\n', 4),
        ("other = [{ limit = 1 },\n{ limit = 0 }]\n", 1),
    ],
)
def test_a_value_that_does_not_fit_names_file_line_and_option(write: Write, text: str, line: int) -> None:
    path = write(text)
    error = fault(path)
    assert str(error) == f"{path}, line {line}: Audit(limit=...) = 0: expected a whole number, at least 1"
    assert error.where == f"{path}, line {line}"
    assert isinstance(error.__cause__, ConfigError)


def test_an_option_of_one_table_is_not_looked_for_in_another(write: Write) -> None:
    path = write('["acme.audit"]\nlimit = 1\n[other]\nheader = "x"\nlimit = 0\n')
    assert str(fault(path)).startswith(f"{path}, line 5: ")


def test_an_option_that_does_not_exist_names_its_line(write: Write) -> None:
    path = write('["acme.audit"]\nlimit = 1\nheadr = "x"\n')
    assert str(fault(path)) == f"{path}, line 3: acme.audit: option = 'headr': expected one of header, limit"


def test_a_fault_of_the_whole_component_names_its_table(write: Write) -> None:
    def refuse(name: str, **options: Any) -> Any:
        raise ConfigError("rate", "10/fortnight", "a rate")

    path = write("\n\n[other]\nlimit = 1\n")
    with pytest.raises(ConfigError) as caught:
        read(path, refuse)
    assert str(caught.value) == f"{path}, line 3: rate = '10/fortnight': expected a rate"


def test_an_unknown_name_is_both_faults_with_file_and_line(write: Write) -> None:
    path = write("[other]\n\n[othr]\n")
    error = fault(path)
    assert isinstance(error, UnknownComponent)
    assert str(error).startswith(f"{path}, line 3: plugin 'othr': no component has this name. Did you mean 'other'?")


def test_a_dotted_name_without_quotes_is_found_on_its_line(write: Write) -> None:
    path = write("[other]\n[acme.audit]\n")
    right = '["acme.audit"]'
    assert str(fault(path)) == (
        f"{path}, line 2: component = '[acme.audit]': expected quotes around a name with a dot: {right}"
    )


def test_a_broken_plugin_stays_a_plugin_error_and_says_where_it_is_named(write: Write) -> None:
    path = write("[other]\n[broken]\n")
    with pytest.raises(PluginError, match="is broken") as caught:
        read(path, make)
    assert caught.value.__notes__ == [f"named in {path}, line 2"]
    assert not isinstance(caught.value, ConfigError)


def test_a_secret_value_is_masked(write: Write) -> None:
    path = write("[other]\npepper = 3\n")
    assert str(fault(path)) == f"{path}, line 2: Audit(pepper=...) = '***': expected a text that is not empty, or None"


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    error = fault(path)
    assert str(error) == f"configuration file = '{path}': expected a readable file (No such file or directory)"
    assert isinstance(error.__cause__, FileNotFoundError)
    assert "Is a directory" in str(fault(tmp_path))


def test_a_file_that_is_no_toml_says_where(write: Write) -> None:
    assert "expected valid TOML in UTF-8 (" in str(fault(write("[other]\nlimit = \n")))
    assert "line 2" in str(fault(write("[other]\nlimit = \n")))
    assert "expected valid TOML in UTF-8 (" in str(fault(write(b"# \xff\n[other]\n")))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "flexmw.toml"),
        ("# nothing\n", "flexmw.toml"),
        ("[other]\n", "pyproject.toml"),
        ("[tool.flexmw]\n", "pyproject.toml"),
        ("tool = 3\n", "pyproject.toml"),
        ("[tool]\nflexmw = 3\n", "pyproject.toml"),
        ("[[tool]]\n", "pyproject.toml"),
    ],
)
def test_a_file_without_a_component_says_what_one_looks_like(write: Write, text: str, name: str) -> None:
    path = write(text, name)
    assert str(fault(path)) == (f"configuration file = '{path}': expected one table per component, such as [envelope]")


@pytest.mark.parametrize("value", ["3", "[1, 2]", "true"])
def test_a_value_in_the_place_of_a_table_names_its_line(write: Write, value: str) -> None:
    path = write(f"\nretry = {value}\n")
    error = fault(path)
    assert (error.option, error.where) == ("retry", f"{path}, line 2")
    assert error.expected == "a table: [retry]"
    path = write(f"[tool.flexmw]\nretry = {value}\n", "pyproject.toml")
    assert str(fault(path)).startswith(f"{path}, line 2: retry = ")
    assert fault(path).expected == "a table: [tool.flexmw.retry]"


def test_lines_of_a_pyproject_are_those_of_the_tool_s_own_table(write: Write) -> None:
    path = write("[tool.other]\nlimit = 0\n[other]\nlimit = 0\n[tool.flexmw.other]\nlimit = 0\n", "pyproject.toml")
    assert str(fault(path)).startswith(f"{path}, line 6: ")


def test_a_place_that_cannot_be_found_is_the_first_line(write: Write) -> None:
    path = write('"oth\\u0065r" = { "lim\\u0069t" = 0 }\n')
    assert str(fault(path)).startswith(f"{path}, line 1: Audit(limit=...)")
