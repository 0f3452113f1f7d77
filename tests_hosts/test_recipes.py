"""The recipes of ``docs/hosts.md``: the files are written and the commands are run as they stand there."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
from mcp import Client

from flexmw.contract import ErrorBody
from tests.recipes import Recipe, recipes
from tests.servers import child_server
from tests.waiting import LONGEST_WAIT
from tests_hosts.page import PAGE

pytestmark = pytest.mark.filterwarnings("default")  # of the frameworks: not ours to mend

RECIPES: Final = recipes(PAGE)
APPS: Final = [title for title, recipe in RECIPES.items() if title != "Servers"]
PORT: Final = "8000"
SETTINGS: Final = """
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "k" * 50
"""
"""What `django-admin startproject` writes, as far as the recipe needs it."""


@contextmanager
def served(recipe: Recipe, command: str, folder: Path) -> Generator[str]:
    """Run a command of the page in a folder with the recipe's files, on a free port in place of 8000."""
    recipe.write(folder)
    if "shop/asgi.py" in recipe.files:
        (folder / "shop" / "settings.py").write_text(SETTINGS, "utf-8")
    program, *arguments = shlex.split(command)

    def on(port: int) -> list[str]:
        path = str(Path(sys.executable).with_name(program))
        return [path, *(argument.replace(PORT, str(port)) for argument in arguments)]

    with child_server(on, folder, environment={**os.environ, "PYTHONPATH": str(folder)}) as child:
        try:
            yield child.url
        finally:
            child.process.terminate()
            child.process.wait(LONGEST_WAIT)


def check(url: str) -> None:
    """The three responses that the page promises of every recipe."""
    with httpx.Client(base_url=url, timeout=LONGEST_WAIT, trust_env=False) as client:
        good, raised, unknown = (client.get(path) for path in ("/models/cat", "/models/dog", "/dogs"))
    assert (good.status_code, good.json()) == (200, {"id": "cat"})
    assert good.headers["x-ratelimit-limit-requests"] == "100"
    for response, status, code in ((raised, 400, "model_not_found"), (unknown, 404, None)):
        assert response.status_code == status
        error = ErrorBody.decode(response.content)
        assert error is not None
        assert code in (None, error.code)
        assert response.headers["x-request-id"]


@pytest.mark.parametrize("title", APPS)
def test_the_recipe_of_a_framework_does_what_its_page_says(title: str, tmp_path: Path) -> None:
    recipe = RECIPES[title]
    with served(recipe, recipe.commands[0], tmp_path) as url:
        check(url)
        if "MCP" in title:
            anyio.run(_call_tool, url)


async def _call_tool(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        content: Any = (await client.call_tool("add", {"a": 2, "b": 3})).content[0]
        assert content.text == "5"


@pytest.mark.parametrize("command", RECIPES["Servers"].commands)
def test_the_command_of_a_server_serves_a_recipe(command: str, tmp_path: Path) -> None:
    with served(RECIPES["Starlette"], command, tmp_path) as url:
        check(url)


def test_the_function_for_lambda_responds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RECIPES["Starlette"].write(tmp_path)
    RECIPES["Servers"].write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from function import handler  # type: ignore[import-not-found]

    http = {"method": "GET", "path": "/models/dog", "sourceIp": "192.0.2.1"}
    result = handler({"version": "2.0", "headers": {}, "requestContext": {"http": http}}, None)
    assert (result["statusCode"], json.loads(result["body"])["error"]["code"]) == (400, "model_not_found")
