"""Start means that it works: what each component says about a store that refuses it, and what it never says."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from flexmw.errors import ConfigError
from flexmw.testing.hostile.ports import HOST
from tests.servers import Child, redis_binary, redis_process, skip_unless
from tests.stores import COMPONENTS, Moving, cut_reply, front, wrong_way

PASSWORD = "hunter2@/x"
ENCODED = "hunter2%40%2Fx"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Child]:
    """A redis-server with a password, and a user ``few`` who may read only."""
    skip_unless(redis_binary(), "redis-server")
    with redis_process(str(redis_binary()), tmp_path_factory.mktemp("guarded")) as child:
        with redis.Redis(port=child.port) as client:
            client.execute_command("ACL", "SETUSER", "few", "on", f">{PASSWORD}", "~*", "+@read", "+@connection")
            client.execute_command("ACL", "SETUSER", "elsewhere", "on", f">{PASSWORD}", "~other:*", "+@all")
            client.execute_command("ACL", "SETUSER", "timeless", "on", f">{PASSWORD}", "~*", "+@all", "-time")
            client.config_set("requirepass", PASSWORD)
        yield child


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(guarded: Child, authority: trustme.CA) -> Generator[Moving]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    with front(guarded.port, context) as moving:
        yield moving


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize(
    ("user", "words"),
    [
        (":wrongpw1%40%2Fx@", "refuses the user name or password"),
        ("", "requires a password"),
        (f"few:{ENCODED}@", "does not permit"),
        (f"elsewhere:{ENCODED}@", "does not permit"),
        (f"nobody:{ENCODED}@", "refuses the user name or password"),
    ],
)
def test_a_server_that_refuses_the_user_is_an_error_at_start(
    name: str, user: str, words: str, guarded: Child, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match=words) as caught:
        COMPONENTS[name](f"redis://{user}{HOST}:{guarded.port}")
    assert f"{HOST}:{guarded.port}" in str(caught.value)
    told = str(caught.value) + caplog.text
    assert not [piece for piece in ("hunter2", "wrongpw1", "%40", "@/x") if piece in told]


@pytest.mark.parametrize(
    ("name", "options"),
    [("RateLimit", {"concurrency": 1, "on_store_failure": "closed"}), ("Idempotency", {"on_store_failure": "run"})],
)
def test_a_command_that_a_script_may_not_run_is_an_error_at_start(
    name: str, options: dict[str, Any], guarded: Child
) -> None:
    """Redis 6.2 and 7 report it in different words, and neither has the code NOPERM."""
    with pytest.raises(ConfigError, match=r"does not permit the command to this user \(NOPERM\)"):
        COMPONENTS[name](f"redis://timeless:{ENCODED}@{HOST}:{guarded.port}", **options)


@pytest.mark.parametrize("name", ["RateLimit", "Idempotency"])
def test_it_is_one_also_where_the_store_may_be_away(name: str, guarded: Child) -> None:
    policy = {"RateLimit": "open", "Idempotency": "run"}[name]
    with pytest.raises(ConfigError, match="refuses the user name or password"):
        COMPONENTS[name](f"redis://:wrong@{HOST}:{guarded.port}", on_store_failure=policy)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_percent_encoded_password_works_and_leaves_no_key(name: str, guarded: Child) -> None:
    COMPONENTS[name](f"redis://:{ENCODED}@{HOST}:{guarded.port}")
    with redis.Redis(port=guarded.port, password=PASSWORD) as client:
        assert client.keys("*") == [] or name == "Pace"  # Pace's key lives for a millisecond


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("command", [b"HELLO", b"SETINFO", b"SELECT"])
def test_a_proxy_in_front_of_the_server_need_not_know_the_commands_of_new_drivers(
    name: str, command: bytes, guarded: Child
) -> None:
    """twemproxy ends the connection at such a command. redis-py sends the first two by itself since version 8."""
    with cut_reply(guarded.port, command) as (port, cut):
        COMPONENTS[name](f"redis://:{ENCODED}@{HOST}:{port}")
    assert not cut


@pytest.mark.parametrize(
    ("command", "rest", "words"),
    [
        (b"HELLO", "?protocol=3", "may not know HELLO, which protocol=3 asks for\\)"),
        (b"SELECT", "/1", "may not know SELECT, which a database other than 0 asks for\\)"),
        (b"EVALSHA", "", r"server\)\. Start it"),
    ],
)
def test_a_connection_that_ends_at_its_beginning_is_explained(
    command: bytes, rest: str, words: str, guarded: Child
) -> None:
    with cut_reply(guarded.port, command) as (port, _), pytest.raises(ConfigError, match=words):
        COMPONENTS["Idempotency"](f"redis://:{ENCODED}@{HOST}:{port}{rest}")


@pytest.mark.parametrize("name", COMPONENTS)
def test_tls_on_one_side_only_and_an_unknown_authority_are_told_apart(
    name: str, guarded: Child, tls: Moving, authority: trustme.CA, tmp_path: Path
) -> None:
    secret, at = f":{ENCODED}@{HOST}", COMPONENTS[name]
    with pytest.raises(ConfigError, match="the server speaks TLS: use a scheme with TLS"):
        at(f"redis://{secret}:{tls.port}")
    with pytest.raises(ConfigError, match="the server speaks without TLS"):
        at(f"rediss://{secret}:{guarded.port}")
    with pytest.raises(ConfigError, match=r"certificate of the server is not trusted.*ssl_ca_certs"):
        at(f"rediss://{secret}:{tls.port}")
    with pytest.raises(ConfigError, match=r"ssl_ca_certs to name a file that can be read \(No such file"):
        at(f"rediss://{secret}:{tls.port}?ssl_ca_certs={tmp_path}/none.pem")
    with authority.cert_pem.tempfile() as path:
        at(f"rediss://{secret}:{tls.port}?ssl_ca_certs={path}")
    at(f"rediss://{secret}:{tls.port}?ssl_cert_reqs=none&ssl_check_hostname=false")


@pytest.mark.parametrize(
    ("name", "options"),
    [("RateLimit", {"on_store_failure": "open"}), ("Idempotency", {"on_store_failure": "run"}), ("Pace", {})],
)
def test_a_server_that_refuses_the_certificate_of_the_client_is_an_error_at_start(
    name: str, options: dict[str, Any], guarded: Child, authority: trustme.CA
) -> None:
    """With TLS 1.3 the refusal comes after the handshake: the policy for a store that is away must not hide it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    app, stranger = authority.issue_cert("app.test"), trustme.CA().issue_cert("app.test")
    with (
        front(guarded.port, context) as moving,
        authority.cert_pem.tempfile() as trusted,
        app.private_key_and_cert_chain_pem.tempfile() as own,
        stranger.private_key_and_cert_chain_pem.tempfile() as foreign,
    ):
        url = f"rediss://:{ENCODED}@{HOST}:{moving.port}?ssl_ca_certs={trusted}"
        COMPONENTS[name](f"{url}&ssl_certfile={own}", **options)
        with pytest.raises(ConfigError, match="requires a certificate of the client: set ssl_certfile"):
            COMPONENTS[name](url, **options)
        with pytest.raises(ConfigError, match="does not accept the certificate of the client"):
            COMPONENTS[name](f"{url}&ssl_certfile={foreign}", **options)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_server_of_another_kind_is_told_apart(name: str, redis_url: str) -> None:
    with wrong_way(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, pytest.raises(ConfigError, match="no redis"):
        COMPONENTS[name](f"redis://{HOST}:{port}")
    address = redis_url.partition("://")[2]
    with pytest.raises(ConfigError, match=r"no node of a cluster: use a scheme without \+cluster"):
        COMPONENTS[name](f"redis+cluster://{address}")
    with pytest.raises(ConfigError, match=r"no Sentinel: use a scheme without \+sentinel"):
        COMPONENTS[name](f"redis+sentinel://{address}/mymaster")


@pytest.mark.parametrize(
    ("name", "options"), [("RateLimit", {"on_store_failure": "closed"}), ("Idempotency", {"on_store_failure": "run"})]
)
def test_a_database_that_the_server_does_not_have_is_an_error_at_start(
    name: str, options: dict[str, Any], guarded: Child
) -> None:
    with pytest.raises(ConfigError, match="no database of this number: choose a lower one"):
        COMPONENTS[name](f"redis://:{ENCODED}@{HOST}:{guarded.port}/99", **options)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_short_password_does_not_show_by_the_letters_that_a_message_lacks(name: str, guarded: Child) -> None:
    with pytest.raises(ConfigError, match=r"the server refuses the user name or password \(WRONGPASS\)"):
        COMPONENTS[name](f"redis://:p@{HOST}:{guarded.port}")


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_store_that_never_replies_is_found_at_start(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((HOST, 0)) as listener:
        url = f"redis://{HOST}:{listener.getsockname()[1]}"
        if name == "Pace":  # goes on without its store, and says so
            COMPONENTS[name](url)
            assert "no response in time" in caplog.text
        else:
            with pytest.raises(ConfigError, match=r"no response in time.*on_store_failure"):
                COMPONENTS[name](url)


@pytest.mark.parametrize("name", ["RateLimit", "Idempotency"])
def test_a_sentinel_that_is_away_is_reported_without_the_client(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    url = f"redis+sentinel://:hunter2@{HOST}:{port}/mymaster"
    COMPONENTS[name](url, on_store_failure={"RateLimit": "open", "Idempotency": "run"}[name])
    (record,) = caplog.records
    assert "no Sentinel that responds names the primary 'mymaster'" in record.getMessage()
    assert not [piece for piece in ("hunter2", "redis.client", "<") if piece in record.getMessage()]


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_client_of_redis_py_gives_its_credential_provider(name: str, guarded: Child) -> None:
    class Provider(redis.CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str]:
            self.asked += 1
            return (PASSWORD,)

    provider = Provider()
    client: Any = redis.asyncio.Redis(host=HOST, port=guarded.port, credential_provider=provider)
    COMPONENTS[name](client)
    assert provider.asked == 1
    assert not client.connection_pool._in_use_connections
    assert not client.connection_pool._available_connections
    wrong: Any = redis.asyncio.Redis(host=HOST, port=guarded.port, password="wrongpw1")
    with pytest.raises(ConfigError, match=r"redis-py client of .*refuses the user name or password") as caught:
        COMPONENTS[name](wrong)
    assert "wrongpw1" not in str(caught.value)
