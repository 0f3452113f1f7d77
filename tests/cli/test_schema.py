"""``flexmw schema``: what the schema accepts, the file accepts; what it refuses, the file refuses."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema
import pytest

import flexmw
from flexmw.cli import main
from flexmw.cli.schema import of_component, of_hint
from flexmw.kit.options import documentation, flag, option, text
from flexmw.registry import BUILT_IN, resolve


@pytest.fixture(scope="module")
def validator() -> Any:
    from flexmw.cli.schema import schema
    from flexmw.registry import resolve

    found = schema({name: resolve(name) for name in BUILT_IN})
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


GOOD = """
[tagging]

[envelope]
validation_status = 400
max_wait = 2
dialects = []

[ratelimit]
rates = ["10/minute", "1000/day"]
storage = { env = "FLEXMW_TEST_STORAGE" }
shadow = { env = "FLEXMW_TEST_SHADOW", type = "bool", default = false }

[idempotency]
storage = "memory://"
ttl = 3600

[pace]

[retry]
attempts = 2
key_origins = ["https://api.example.com"]

[profile.prod]
retry = false

[profile.prod.ratelimit]
shadow = false
"""


def test_a_good_file_is_good_to_both(validator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_TEST_STORAGE", "memory://")
    file = tmp_path / "flexmw.toml"
    file.write_text(GOOD)
    document = tomllib.loads(GOOD)
    assert [each["name"] for each in flexmw.Stack.load(file).describe()] == [*document][:-1]
    assert [each["name"] for each in flexmw.Stack.load(file, profile="prod").describe()] == [*document][:-2]
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[envelop]",
        "[envelope]\nnull_parm = true",
        "[envelope]\nnull_param = 'yes'",
        "[retry]\nattempts = '3'",
        "[retry]\nattempts = 2.5",
        "[retry]\nkey_origins = 'https://api.example.com'",
        "[ratelimit]\nrates = ['1/minute']\nstorage = { environment = 'X' }",
        "envelope = 1",
        "[[envelope]]\nnull_parm = true",
        "ratelimit = [[{ rates = ['1/minute'] }]]",
        "[envelope]\n[profile.prod.envelope]\nnull_param = 3",
        "[envelope]\n[[profile.prod.envelope]]\nnull_param = 3",
        "[envelope]\n[profile.prod]\nenvelope = true",
    ],
)
def test_a_bad_file_is_bad_to_both(validator: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text(text)
    profile = "prod" if "profile" in text else None
    with pytest.raises(flexmw.ConfigError):
        flexmw.Stack.load(file, profile=profile)
    assert list(validator.iter_errors(tomllib.loads(text)))


def test_a_list_of_tables_is_good_to_both(validator: Any, tmp_path: Path) -> None:
    text = "[[ratelimit]]\nrates = ['1/minute']\n[[ratelimit]]\nrates = ['9/day']\n"
    file = tmp_path / "flexmw.toml"
    file.write_text(text + text.replace("ratelimit", "profile.prod.ratelimit"))
    assert len(flexmw.Stack.load(file).describe()) == 2
    assert list(validator.iter_errors(tomllib.loads(file.read_text()))) == []


def test_every_built_in_component_is_in_it_without_its_inner_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--built-in"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == {*BUILT_IN, "profile"}
    retry = schema["properties"]["retry"]["properties"]
    assert {"clock", "random"}.isdisjoint(retry)
    assert retry["attempts"]["default"] == 3
    assert "a whole number, 1 to 100" in retry["attempts"]["description"]


def test_each_option_is_described_by_its_text_its_rule_and_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--built-in"]) == 0
    tables = json.loads(capsys.readouterr().out)["properties"]
    for name in BUILT_IN:
        options = {option.name: option for option in documentation(cast("Any", resolve(name)))}
        for key, schema in tables[name]["properties"].items():
            assert schema["description"].startswith(options[key].doc)
            if options[key].value != flag.expected:
                assert options[key].value in schema["description"]
    assert tables["idempotency"]["properties"]["max_body"]["description"].endswith("(bytes).")


def test_an_option_without_a_text_is_described_by_its_rule() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Audit:
        header: str = option("x-audit", text)
        level: int = 3

    properties = of_component(Audit)["properties"]
    assert properties["header"]["description"] == text.expected
    assert "description" not in properties["level"]


def test_no_secret_default_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema", "--built-in"])
    limit = json.loads(capsys.readouterr().out)["properties"]["ratelimit"]["properties"]
    assert "default" not in limit["storage"]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (float | None, {"type": "number"}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (str | int, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        (str | Callable[..., Any], {"type": "string"}),
        (list[Callable[..., Any]], {"type": "array"}),
        (Any, {}),
        (Callable[..., Any], None),
        (Mapping[str, Any], None),
    ],
)
def test_a_type_is_a_schema_or_nothing(hint: Any, schema: Any) -> None:
    assert of_hint(hint) == schema
