"""A client that a generator makes of an app's OpenAPI document reads the errors that the app sends.

Not collected by default: ``pytest tests_nightly``. Needs ``openapi-python-client`` on the PATH.
"""
# ruff: noqa: S101, S106, S603

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import flexmw
from tests.openapi_document.test_openapi import shop, stack
from tests.servers import skip_unless, uvicorn_server


def test_a_generated_client_reads_the_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = shutil.which("openapi-python-client")
    skip_unless(command, "openapi-python-client")
    assert command is not None
    app = shop(*stack())
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(flexmw.openapi(app)), encoding="utf-8")
    arguments = ("--path", str(document), "--output-path", str(tmp_path / "shop_client"))
    options = ("--meta", "none", "--fail-on-warning")
    subprocess.run([command, "generate", *arguments, *options], check=True, cwd=tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    client_class = importlib.import_module("shop_client").AuthenticatedClient
    models = importlib.import_module("shop_client.models")
    order = importlib.import_module("shop_client.api.default.order_v1_orders_number_post")
    with uvicorn_server(app) as served, client_class(base_url=served.url, token="k") as client:
        sent = [
            order.sync_detailed(1, client=client, body=models.Order(age=age), idempotency_key=key)
            for age, key in ((1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "e"))
        ]
    assert [response.status_code for response in sent] == [200, 422, 200, 200, 200, 429]
    assert sent[0].parsed == models.Order(age=1)
    assert sent[1].parsed.error.code == "idempotency_key_reused"
    assert sent[5].parsed.error.code == "rate_limit_exceeded"
    assert int(sent[5].headers["retry-after"]) > 0
