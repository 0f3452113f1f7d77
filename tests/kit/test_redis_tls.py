"""The TLS options of a store: each message names the option, and nobody is asked for a password."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from cryptography.hazmat.primitives import serialization

import flexmw
from flexmw.errors import ConfigError
from flexmw.kit import redis_client
from flexmw.kit.redis_client import Connector
from flexmw.kit.redis_tls import problem_of
from flexmw.kit.store_url import parse

PASSWORD = b"hunter2"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of a certificate, its key, the same key encrypted, the key of another one, and a text."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    own, other = authority.issue_cert("app.test"), authority.issue_cert("other.test")
    key = own.private_key_pem.bytes()
    encrypted = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD),
    )
    contents = {
        "cert": own.cert_chain_pems[0].bytes(),
        "key": key,
        "encrypted": encrypted,
        "other": other.private_key_pem.bytes(),
        "text": b"no certificate",
        "authority": authority.cert_pem.bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents} | {
        "none": str(folder / "none"),
        "folder": str(folder),
        "folders": f"{folder / 'none'}{os.pathsep}{folder}",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"ssl_certfile": "cert", "ssl_keyfile": "key", "ssl_ca_certs": "authority"}, ""),
        ({"ssl_certfile": "cert", "ssl_keyfile": "encrypted", "ssl_password": "hunter2"}, ""),
        ({"ssl_ca_path": "folder"}, ""),
        ({"ssl_ca_path": "folders"}, ""),
        ({"ssl_ca_certs": "none"}, "ssl_ca_certs to name a file that can be read (No such file or directory)"),
        ({"ssl_certfile": "none"}, "ssl_certfile to name a file that can be read (No such file or directory)"),
        ({"ssl_keyfile": "key"}, "ssl_certfile beside ssl_keyfile"),
        (
            {"ssl_certfile": "cert"},
            "in ssl_certfile a certificate and its private key in PEM, or the key in ssl_keyfile",
        ),
        (
            {"ssl_certfile": "cert", "ssl_keyfile": "text"},
            "in ssl_certfile a certificate, and in ssl_keyfile its private key, in PEM",
        ),
        ({"ssl_certfile": "cert", "ssl_keyfile": "other"}, "in ssl_keyfile the key of the certificate in ssl_certfile"),
        ({"ssl_ca_certs": "text"}, "in ssl_ca_certs certificates in PEM"),
        ({"ssl_ca_data": "abc"}, "in ssl_ca_data certificates in PEM"),
        ({"ssl_ca_path": "text"}, "ssl_ca_path to name a directory"),
    ],
)
def test_the_option_that_cannot_be_used_is_named(options: dict[str, str], expected: str, files: dict[str, str]) -> None:
    assert problem_of({name: files.get(value, value) for name, value in options.items()}) == expected


@pytest.mark.parametrize("password", [{}, {"ssl_password": "wrongpw1"}])
def test_an_encrypted_key_without_its_password_is_an_error_and_asks_no_terminal(
    password: dict[str, str], files: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = {"ssl_certfile": files["cert"], "ssl_keyfile": files["encrypted"], **password}
    assert problem_of(options) == "in ssl_password the password of the key in ssl_keyfile, which is encrypted"
    assert "pass phrase" not in "".join(capfd.readouterr())


def test_files_are_checked_before_a_connection_is_made_and_whatever_the_policy(files: dict[str, str]) -> None:
    """Nothing responds at the address: the error is about the file, and shows no value of an option."""
    url = f"rediss://127.0.0.1:1?ssl_ca_certs={files['none']}"
    client: Any = redis.asyncio.Redis(port=1, ssl=True, ssl_ca_certs=files["none"])
    for storage in (url, client):
        with pytest.raises(ConfigError, match="ssl_ca_certs to name a file that can be read") as caught:
            flexmw.wrap_app(_app, flexmw.RateLimit("1/minute", storage=storage, on_store_failure="open"))
        assert Path(files["none"]).name + "'" not in str(caught.value)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize("takes_password", [True, False])
def test_an_empty_password_goes_only_to_connections_that_take_one(
    takes_password: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Connection:
        def __init__(self, host: str, ssl_certfile: str) -> None: ...

    class NewerConnection(Connection):
        def __init__(self, host: str, ssl_certfile: str, ssl_password: str | None = None) -> None: ...

    monkeypatch.setitem(redis_client._ASYNC, "tls", NewerConnection if takes_password else Connection)
    url = parse("rediss://127.0.0.1/0?ssl_certfile=cert.pem", "storage")
    pool = Connector(url).asyncio(timeout=1.0).connection_pool
    assert ("ssl_password" in pool.connection_kwargs) is takes_password
