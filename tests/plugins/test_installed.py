"""Plugins that were built and installed into a fresh environment: seen, loaded by name, read from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.plugins.conftest import Declared, Environment

APP = """
import json, anyio, flexmw
from flexmw.testing.visit import Visit, http_scope

async def app(scope, receive, send):
    if scope["path"] == "/crash":
        raise ValueError("secret")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})

def headers(app, path="/", *pairs):
    visit = Visit(http_scope(path=path, headers=pairs))
    anyio.run(visit.run, app)
    return {name.decode(): value.decode() for name, value in visit.headers}
"""


def test_the_command_lists_what_is_installed(environment: Environment) -> None:
    found = json.loads(environment.run("flexmw", "plugins", "--json"))
    assert found == [
        {
            "name": "acme.audit",
            "target": "acme_audit:Audit",
            "distribution": "flexmw-audit-template",
            "version": "0.1.0",
        },
        {
            "name": "acme.cache",
            "target": "acme_cache:Cache",
            "distribution": "flexmw-cache-template",
            "version": "0.1.0",
        },
        {
            "name": "contrib.breaker",
            "target": "flexmw_circuit_breaker:CircuitBreaker",
            "distribution": "flexmw-circuit-breaker",
            "version": "0.1.0",
        },
        {
            "name": "flexmw.fallback",
            "target": "flexmw_fallback:Fallback",
            "distribution": "flexmw-fallback",
            "version": "0.1.0",
        },
    ]
    assert json.loads(environment.run("python", "-m", "flexmw", "plugins", "--json")) == found


def test_the_command_lists_dialects_too(environment: Environment) -> None:
    found = json.loads(environment.run("flexmw", "plugins", "--dialects", "--json"))
    assert [(each["name"], each["distribution"]) for each in found] == [
        ("anthropic", "flexmw-anthropic-dialect"),
        ("rfc9457", "flexmw-problem-details"),
    ]


def test_listing_imports_no_plugin_and_is_quick(environment: Environment) -> None:
    seen = environment.python("""
import json, sys, time, flexmw
flexmw.component("retry")
began = time.process_time()
names = [plugin.name for plugin in flexmw.installed()]
first, began = time.process_time() - began, time.process_time()
flexmw.installed()
again = time.process_time() - began
loaded = sorted({"acme_audit", "flexmw_circuit_breaker", "flexmw.tagging"} & set(sys.modules))
print(json.dumps({"names": names, "loaded": loaded, "first": first, "again": again}))
""")
    assert seen["names"] == ["acme.audit", "acme.cache", "contrib.breaker", "flexmw.fallback"]
    assert seen["loaded"] == []
    assert seen["first"] < 1.0, "a scan of all distributions, in CPU seconds"
    assert seen["again"] < 0.001, "the scan is remembered"


def test_wrap_app_takes_a_plugin_by_name_and_with_options(environment: Environment) -> None:
    seen = environment.python(f"""{APP}
by_name = flexmw.wrap_app(app, flexmw.Envelope(), "acme.audit")
with_options = flexmw.wrap_app(app, flexmw.component("acme.audit", header="x-mine"))
print(json.dumps([headers(by_name), headers(with_options)]))
""")
    assert seen == [{"x-audit": "1"}, {"x-mine": "1"}]


def test_wrap_client_takes_a_plugin_by_name(environment: Environment) -> None:
    seen = environment.python("""
import json, anyio, httpx, httpx2, flexmw
from flexmw.testing import HostileServer

async def call(client, url):
    async with client:
        return [(await client.get(url)).status_code for _ in range(2)]

results = []
for library in (httpx, httpx2):
    with HostileServer("200") as server:
        with flexmw.wrap_client(library.Client(), "acme.audit", "contrib.breaker") as client:
            client.get(server.url)
        anyio.run(call, flexmw.wrap_client(library.AsyncClient(), "contrib.breaker", "acme.audit"), server.url)
        results.append([request.header("x-audit") for request in server.requests])
print(json.dumps(results))
""")
    assert seen == [["1"] * 3, ["1"] * 3]


def test_a_file_names_plugins_and_their_options(environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text("""
[envelope]
dialects = ["rfc9457"]

["acme.audit"]
header = { env = "AUDIT_HEADER" }

["contrib.breaker"]
failures = 1
cooldown = 5

[retry]
attempts = 1
""")
    seen = environment.python(
        f"""{APP}
import httpx
from flexmw.testing import HostileServer
stack = flexmw.Stack.load({str(file)!r})
crash = headers(stack.wrap_app(app), "/crash", (b"accept", b"application/problem+json"))
outcomes = []
with HostileServer("503") as server, stack.wrap_client(httpx.Client()) as client:
    for _ in range(2):
        try:
            outcomes.append(client.get(server.url).status_code)
        except httpx.ConnectError as error:
            outcomes.append(type(error).__name__)
print(json.dumps([headers(stack.wrap_app(app)), crash["content-type"], outcomes, stack.describe()]))
""",
        AUDIT_HEADER="x-from-env",
    )
    answer, crash, outcomes, described = seen
    assert answer == {"x-from-env": "1"}
    assert crash == "application/problem+json"
    assert outcomes == [503, "CircuitOpen"]
    assert [each["name"] for each in described] == ["envelope", "acme.audit", "contrib.breaker", "retry"]
    assert [each["faces"] for each in described[1:3]] == [["server", "client"], ["client"]]
    assert described[2]["options"] == {"failures": 1, "cooldown": 5, "statuses": [500, 502, 503, 504]}


def test_the_schema_knows_the_options_of_installed_plugins(environment: Environment) -> None:
    schema = json.loads(environment.run("flexmw", "schema"))
    audit = schema["properties"]["acme.audit"]["properties"]
    assert audit["header"]["default"] == "x-audit"
    assert set(schema["properties"]["contrib.breaker"]["properties"]) == {"failures", "cooldown", "statuses"}
    assert "acme.audit" not in json.loads(environment.run("flexmw", "schema", "--built-in"))["properties"]


PLUGIN = """
import flexmw
class Thing:
    name, api, order = "acme.thing", {api}, flexmw.Order()
    def asgi(self, app): return app
"""

FAULT = """
import json, flexmw
async def app(scope, receive, send): ...
try:
    flexmw.wrap_app(app, {name!r})
    print(json.dumps(None))
except flexmw.PluginError as error:
    cause = type(error.__cause__).__name__ if error.__cause__ else None
    print(json.dumps([str(error), error.name, error.target, error.distribution, cause]))
"""


def fault(environment: Environment, declared: Declared, name: str) -> Any:
    return environment.python(FAULT.format(name=name), PYTHONPATH=str(declared.path))


def test_a_broken_plugin_is_named_with_its_distribution_and_cause(environment: Environment, declared: Declared) -> None:
    declared.add("acme-broken", "acme.thing", "acme_thing:Thing", source="import a_module_that_is_not_there\n")
    message, name, target, distribution, cause = fault(environment, declared, "acme.thing")
    assert (name, target, distribution) == ("acme.thing", "acme_thing:Thing", "acme-broken 0.1")
    assert "failed to import: ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in message
    assert "Repair or uninstall acme-broken" in message
    assert cause == "ModuleNotFoundError"


def test_a_plugin_of_another_version_says_which_side_to_upgrade(environment: Environment, declared: Declared) -> None:
    declared.add("acme-new", "acme.thing", "acme_thing:Thing", source=PLUGIN.format(api=99))
    declared.add("acme-old", "acme.old", "acme_old:Thing", source=PLUGIN.format(api=0))
    assert "needs component API 99" in (message := fault(environment, declared, "acme.thing")[0])
    assert "Upgrade flexmw" in message
    assert "speaks component API 0" in (message := fault(environment, declared, "acme.old")[0])
    assert "Upgrade the plugin" in message


def test_two_distributions_that_claim_one_name_are_both_named(environment: Environment, declared: Declared) -> None:
    declared.add("acme-one", "acme.thing", "acme_thing:Thing", source=PLUGIN.format(api=1))
    declared.add("acme-two", "acme.thing", "acme_two:Thing", version="2.0")
    message = fault(environment, declared, "acme.thing")[0]
    assert "acme-one 0.1" in message
    assert "acme-two 2.0" in message
    assert "Uninstall one of them" in message


def test_a_misspelt_name_gets_a_guess(environment: Environment, declared: Declared) -> None:
    assert "id you mean 'acme.audit'?" in fault(environment, declared, "acme.adit")[0]


def test_a_built_in_name_is_never_taken_over(environment: Environment, declared: Declared) -> None:
    declared.add("acme-evil", "envelope", "acme_evil:Thing", source="raise SystemExit('taken over')\n")
    assert fault(environment, declared, "envelope") is None


def test_broken_plugins_do_not_disturb_who_does_not_name_them(environment: Environment, declared: Declared) -> None:
    declared.add("acme-broken", "acme.thing", "acme_thing:Thing", source="raise RuntimeError('broken')\n")
    assert fault(environment, declared, "acme.audit") is None
    listed = json.loads(environment.run("flexmw", "plugins", "--json", PYTHONPATH=str(declared.path)))
    assert "acme.thing" in [each["name"] for each in listed]


def test_load_says_which_plugins_are_broken(environment: Environment, declared: Declared) -> None:
    declared.add("acme-broken", "acme.thing", "acme_thing:Thing", source="raise RuntimeError('broken')\n")
    shown = environment.run("flexmw", "plugins", "--load", code=1, PYTHONPATH=str(declared.path))
    assert "broken: plugin 'acme.thing' (acme_thing:Thing, from acme-broken 0.1): failed to import" in shown
    assert "acme.audit" in shown


def test_a_file_that_names_a_broken_plugin_is_named_with_the_line(
    environment: Environment, declared: Declared, tmp_path: Path
) -> None:
    declared.add("acme-broken", "acme.thing", "acme_thing:Thing", source="raise RuntimeError('broken')\n")
    file = tmp_path / "flexmw.toml"
    file.write_text('[envelope]\n\n["acme.thing"]\n')
    shown = environment.run("flexmw", "explain", "--config", str(file), code=2, PYTHONPATH=str(declared.path))
    assert "plugin 'acme.thing'" in shown
    assert f"named in {file}, line 3" in shown
