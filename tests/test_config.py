from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flexmw.config import PROFILE_VARIABLE, load, read
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


TYPED: list[tuple[str, str, Any]] = [
    ('{ env = "X", type = "int" }', "10", 10),
    ('{ env = "X", type = "float" }', "0.5", 0.5),
    ('{ env = "X", type = "bool" }', "Yes", True),
    ('{ env = "X", type = "bool" }', "0", False),
    ('{ env = "X", type = "list" }', "10/minute, 1000/day", ("10/minute", "1000/day")),
    ('{ env = "X", type = "list" }', "", ()),
    ('{ env = "X", type = "toml" }', '{ "/v1" = ["1/minute"] }', {"/v1": ("1/minute",)}),
    ('{ env = "X", type = "str" }', "10", "10"),
    ('{ env = "X", default = 10 }', "20", 20),
    ('{ env = "X", default = true }', "off", False),
    ('{ env = "X", default = 1.5 }', "2", 2.0),
    ('{ env = "X", default = ["a"] }', "b,c", ("b", "c")),
    ('{ env = "X", default = { a = 1 } }', "{ a = 2 }", {"a": 2}),
    ('{ env = "X", default = "a" }', "10", "10"),
    ('{ env = "X", default = "a" }', "", ""),
]


@pytest.mark.parametrize(("value", "text", "expected"), TYPED)
def test_a_variable_is_read_as_its_type(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str, text: str, expected: Any
) -> None:
    monkeypatch.setenv("X", text)
    assert read(write(f"[other]\ntable = {value}\n"), make) == [Audit(table=expected)]


@pytest.mark.parametrize(
    ("default", "expected"),
    [("10", 10), ("true", True), ('["a", "b"]', ("a", "b")), ("{ a = [1] }", {"a": (1,)}), ('"x"', "x")],
)
def test_a_variable_that_is_not_set_has_its_default(
    write: Write, monkeypatch: pytest.MonkeyPatch, default: str, expected: Any
) -> None:
    monkeypatch.delenv("X", raising=False)
    assert read(write(f'[other]\ntable = {{ env = "X", default = {default} }}\n'), make) == [Audit(table=expected)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            '{ env = "X", type = "int" }',
            "other.limit = 'X': expected an environment variable that holds a whole number",
        ),
        ('{ env = "X", default = 2 }', "that holds a whole number (type = 'int')"),
        ('{ env = "X", type = "bool" }', "that holds one of true, 1, yes, on, false, 0, no, off"),
        ('{ env = "X", type = "toml" }', "that holds a value as TOML writes it"),
        (
            '{ env = "X", type = "integer" }',
            "other.limit: type = 'integer': expected one of str, int, float, bool, list",
        ),
    ],
)
def test_a_variable_of_another_type_is_named_and_its_value_is_not_shown(
    write: Write, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("X", "hunter2 = [")
    path = write(f"[other]\n\nlimit = {value}\n")
    error = str(fault(path))
    assert error.startswith(f"{path}, line 3: other.limit")
    assert message in error
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("text", "kind"), [("10", "int"), ("0.5", "float"), ("true", "bool"), ("[1]", "toml"), ("1, 2", "list")]
)
def test_a_text_of_the_environment_that_an_option_refuses_names_the_type_to_write(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str, kind: str
) -> None:
    monkeypatch.setenv("X", text)
    path = write('[other]\nlimit = { env = "X" }\n')
    assert str(fault(path)) == (
        f"{path}, line 2: Audit(limit=...) = '{text}': expected a whole number, at least 1; "
        f'the variable is read as text: {{ env = "X", type = "{kind}" }}'
    )


@pytest.mark.parametrize("rest", ['type = "int"', "default = 5"])
def test_a_text_whose_type_the_file_names_already_is_refused_without_a_hint(
    write: Write, monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    monkeypatch.setenv("X", "0")
    error = str(fault(write(f'[other]\nlimit = {{ env = "X", {rest} }}\n')))
    assert error.endswith("Audit(limit=...) = 0: expected a whole number, at least 1")


PROFILES = """
[other]
limit = 1
header = "x"

[profile.prod.other]
limit = 2

[profile.dev]
other.limit = 3
"acme.audit" = {}

[profile.none]
other = false
"acme.audit" = { limit = 4 }
"""


def loaded(path: Path | None, **options: Any) -> list[Any]:
    return [*load(path, make, **options).components]


def test_a_profile_replaces_single_options(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(PROFILES)
    assert loaded(path) == [Audit(limit=1, header="x")]
    assert loaded(path, profile="prod") == [Audit(limit=2, header="x")]
    assert loaded(path, profile="dev") == [Audit(limit=3, header="x"), Audit()]
    assert loaded(path, profile="none") == [Audit(limit=4)]
    monkeypatch.setenv(PROFILE_VARIABLE, "prod")
    assert loaded(path) == [Audit(limit=2, header="x")]
    assert loaded(path, profile="dev")[0].limit == 3


def test_a_profile_of_pyproject_is_below_the_tables_of_flexmw(write: Write) -> None:
    path = write("[tool.flexmw.other]\n[tool.flexmw.profile.prod.other]\nlimit = 0\n", "pyproject.toml")
    with pytest.raises(ConfigError, match=r"pyproject.toml, line 3: Audit\(limit=...\) = 0"):
        load(path, make, profile="prod")


def test_a_list_of_tables_in_a_profile_replaces_all_tables_of_the_name(write: Write) -> None:
    path = write("[[other]]\n[[other]]\n['acme.audit']\n[[profile.prod.other]]\nlimit = 2\n[[profile.prod.other]]\n")
    assert loaded(path, profile="prod") == [Audit(limit=2), Audit(), Audit()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profile.prod.other]\nlimit = 0", r", line 2: Audit\(limit=...\) = 0: expected a whole number"),
        ("[profile.prod]\nother.limit = 0", r", line 2: Audit\(limit=...\) = 0: expected"),
        ("[other]\n[profile.prod.other]\n\nlimit = 0", r", line 4: Audit\(limit=...\) = 0: expected"),
        ("[other]\n[profile]\nprod = 3", r", line 3: profile.prod = 3: expected a table for each component, such as"),
        ("profile = 3", r"profile.name = 3: expected a table for each component"),
        ("[other]\n[profile.prod]\nother = 3", r", line 3: other = 3: expected a table: \[profile.prod.other\]"),
        ("[other]\n[profile.prod]\nretry = false", r", line 3: retry = False: expected the name of a component to "),
        (
            "[[other]]\n[[other]]\n[profile.prod.other]",
            r", line 3: components = '2 x \[\[other\]\]': expected \[\[prof",
        ),
        ("[other]\n[profile.dev]", r"flexmw.toml: profile = 'prod': expected one of dev"),
        ("[other]", r"flexmw.toml: profile = 'prod': expected a table \[profile.prod\]"),
        ("[other]\n[profile.prod]\nother = false", r"expected one table per component"),
    ],
)
def test_a_profile_that_does_not_fit_names_its_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write(text), make, profile="prod")


def test_an_override_lies_over_file_and_profile(write: Write) -> None:
    path = write(PROFILES + "[other.table]\na = 1\nb = { c = 2 }\n")
    table = {"a": 1, "b": {"c": 3}}
    assert loaded(path, overrides=["other.limit=7", "other.table.b.c=3"]) == [Audit(limit=7, header="x", table=table)]
    assert loaded(path, profile="none", overrides=["acme.audit.limit=5"]) == [Audit(limit=5)]
    assert loaded(path, overrides=['"acme.audit".header=a b', "other=false"]) == [Audit(header="a b")]
    assert loaded(None, defaults=("other",), overrides=["other.header=2026-11-29"]) == [Audit(header="2026-11-29")]
    assert loaded(path, overrides=["other.table.d.e=true"])[0].table["d"] == {"e": True}
    assert loaded(path, overrides=['other.rates=["a", "b"]'])[0].rates == ("a", "b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("other.limit=0", r"^--set other.limit: Audit\(limit=...\) = 0: expected a whole number"),
        ("other.limt=3", r"^--set other.limt: Audit"),
        ("other", r"^--set = 'other': expected name.option=value"),
        ("=3", r"^--set = '': expected name.option=value"),
        ("other limit=3", r"^--set = 'other limit': expected"),
        ("other=3", r"^--set other: other = 3: expected false, or an option: other.option=value"),
        ("retry=false", r"^--set retry: retry = False: expected the name of a component to switch off \(other\)"),
        ("other.header.x=3", r"^--set other.header.x: other.header = 'x': expected a table, to set one of its keys"),
    ],
)
def test_an_override_that_does_not_fit_is_named(write: Write, override: str, message: str) -> None:
    def strict(name: str, **options: Any) -> Any:
        try:
            return make(name, **options)
        except TypeError as error:
            raise ConfigError(f"Audit({[*options][-1]}=...)", 3, "an option") from error

    with pytest.raises(ConfigError, match=message):
        load(write('[other]\nheader = "x"\n'), strict, overrides=[override])


NOT_CHOSEN = [
    (
        "[profile.prod.other]\nlimit = 0",
        ", line 4 (profile 'prod', not chosen): Audit(limit=...) = 0: expected a whole",
    ),
    ("[profile.prod]\nother = 3", ", line 4 (profile 'prod', not chosen): other = 3: expected a table"),
    (
        "[profile.prod]\nother = false",
        "(profile 'prod', not chosen): profile = 'prod': expected at least one component",
    ),
    ("[profile.prod.oter]", ", line 3 (profile 'prod', not chosen): plugin 'oter': no component has"),
    ("[profile.prod.'acme.audi']", ", line 3 (profile 'prod', not chosen): plugin 'acme.audi': no component has"),
    (
        "[profile.prod.other]\nheader = { env = 'X' }\nlimit = 0",
        ", line 5 (profile 'prod', not chosen): Audit(limit=...) = 0: expected a whole",
    ),
    (
        "[profile.prod.other]\nlimit = { env = 'X', type = 'integer' }",
        ", line 4 (profile 'prod', not chosen): other.limit: type = 'integer': expected one of",
    ),
]


@pytest.mark.parametrize(("text", "message"), NOT_CHOSEN)
@pytest.mark.parametrize("profile", [None, "dev"])
def test_a_profile_that_is_not_chosen_is_checked_and_named(
    write: Write, text: str, message: str, profile: str | None
) -> None:
    path = write(f"[other]\n[profile.dev]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, make, profile=profile)
    assert f"{path}" in str(caught.value)
    assert message in str(caught.value)


def test_a_profile_that_is_not_chosen_needs_nothing_of_this_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLEXMW_TEST_LIMIT", "0")
    monkeypatch.delenv("FLEXMW_TEST_UNSET", raising=False)
    path = write("""
        [other]
        [profile.prod.other]
        limit = { env = "FLEXMW_TEST_LIMIT", type = "int" }
        table = [{ url = { env = "FLEXMW_TEST_UNSET" } }]
        [profile.dev."vendor.thing"]
        depth = 3
    """)
    with caplog.at_level("INFO", logger="flexmw"):
        assert loaded(path) == [Audit()]
    assert "profile 'dev', which is not chosen: the table of 'vendor.thing' is not checked" in caplog.text


def test_an_override_of_one_of_several_components_names_its_index(write: Write) -> None:
    path = write("[[other]]\nlimit = 2\n[[other]]\nlimit = 3\n[[profile.prod.other]]\nlimit = 4\n")
    assert loaded(path, overrides=["other.1.limit=7"]) == [Audit(limit=2), Audit(limit=7)]
    assert loaded(path, overrides=["other.0=false", "other.1.header=x"]) == [Audit(limit=3, header="x")]
    assert loaded(path, profile="prod", overrides=["other.0.table.1=true"]) == [Audit(limit=4, table={"1": True})]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "other.limit=2",
            r"^--set other.limit: components = '2 x \[\[other\]\]': expected one table \[other\], or the ",
        ),
        ("other.limit=2", r"the index of one: other.0 \(.*flexmw.toml, line 1\), other.1 \(.*flexmw.toml, line 2\)$"),
        ("other.2.limit=2", r"^--set other.2.limit: other = 2: expected the index of a table, from 0: other.0 \("),
        ("other.2=false", r"^--set other.2: other = 2: expected the index of a table, from 0: other.0 \("),
        ("other.1=true", r"^--set other.1: other = True: expected false, or an option: other.option=value"),
        ("retry.0.limit=2", r"^--set retry.0.limit: retry = 0: expected the index of .*has none of this name"),
        ("other.1.limit=0", r"^--set other.1.limit: Audit\(limit=...\) = 0: expected a whole"),
    ],
)
def test_an_override_without_a_right_index_is_refused_and_lists_them(write: Write, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(write("[[other]]\n[[other]]\n"), make, overrides=[override])


@pytest.mark.parametrize(("profile", "option"), [("prod", "--profile"), (None, PROFILE_VARIABLE)])
def test_a_profile_needs_a_file(monkeypatch: pytest.MonkeyPatch, profile: str | None, option: str) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "prod")
    with pytest.raises(ConfigError, match=f"{option} = 'prod': expected a file that has the profile"):
        load(None, make, profile=profile, defaults=("other",))


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("Audit(limit=...)", ", line 2"),
        ("Audit(header=...)", ", line 5"),
        ("Audit", ", line 1"),
        ("components", ""),
    ],
)
def test_an_error_that_comes_later_gets_its_place(write: Write, option: str, place: str) -> None:
    path = write('[other]\nlimit = 2\n\n[profile.a.other]\nheader = "x"\n')
    configuration = load(path, make, profile="a")
    error = configuration.located(ConfigError(option, 2, "another"))
    assert str(error) == f"{path}{place}: {option} = 2: expected another"
    assert configuration.located(error) is error


def test_an_error_about_one_of_several_alike_names_the_file(write: Write) -> None:
    path = write("[[other]]\nlimit = 2\n[[other]]\nlimit = 3\n")
    error = load(path, make).located(ConfigError("Audit(limit=...)", 2, "another"))
    assert error.where == str(path)
