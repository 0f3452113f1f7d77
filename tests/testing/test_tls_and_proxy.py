from __future__ import annotations

import ssl
import sys
from typing import Any

import httpx
import pytest
import trustme

from flexmw.errors import ConfigError
from flexmw.testing import HostileServer
from tests.testing.clients import LIBRARIES, NO_TRUST, RESET, options, outcome
from tests.waiting import LONGEST_WAIT

OPTIONS: dict[str, Any] = {"timeout": LONGEST_WAIT, "trust_env": False}

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.__name__))


@each_library
def test_a_client_that_trusts_the_server_is_served_over_tls(library: Any) -> None:
    with HostileServer(["503"], tls=True) as server, library.Client(**options(server)) as client:
        assert server.url.startswith("https://127.0.0.1:")
        assert [client.get(server.url).status_code for _ in range(2)] == [503, 200]


@each_library
def test_a_client_that_does_not_trust_it_is_no_error_of_the_server(library: Any) -> None:
    with HostileServer(tls=True) as server, library.Client(**OPTIONS, verify=NO_TRUST) as client:
        assert outcome(lambda: client.get(server.url)) == "ConnectError"
        assert (server.connections, len(server.requests)) == (1, 0)


@each_library
def test_tls_to_a_plain_port_fails_before_there_is_a_request(library: Any) -> None:
    with HostileServer("503") as server, library.Client(**OPTIONS, verify=NO_TRUST) as client:
        assert outcome(lambda: client.get(f"https://127.0.0.1:{server.port}")) == "ConnectError"
        assert len(server.requests) == 0


def test_a_certificate_of_ones_own_can_be_given() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    with HostileServer(tls=ours) as server:
        with httpx.Client(verify=theirs, **OPTIONS) as client:
            assert client.get(server.url).status_code == 200
        with pytest.raises(ConfigError, match="a certificate that is made here"):
            server.client_context()


def test_without_trustme_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigError, match=r"'trustme' to be installed, or an ssl.SSLContext"):
        HostileServer(tls=True)


def proxied(library: Any, server: HostileServer) -> Any:
    return library.Client(proxy=server.url, verify=server.client_context(), trust_env=False, timeout=10.0)


@each_library
def test_a_proxy_that_wants_credentials_fails_the_connect_and_executes_nothing(library: Any) -> None:
    with HostileServer("proxy-407") as server, proxied(library, server) as client:
        assert outcome(lambda: client.post("https://api.example/orders", content=b"x")) == "ProxyError"
        assert outcome(lambda: client.post("http://api.example/orders", content=b"x")) == 407
        assert [(request.method, request.target) for request in server.requests] == [
            ("CONNECT", "api.example:443"),
            ("POST", "http://api.example/orders"),
        ]
        assert server.requests[1].path == "/orders"
        assert server.executions == 0


@each_library
def test_a_proxy_speaks_as_the_host_that_was_asked_for(library: Any) -> None:
    with HostileServer(["ok", "503"]) as server, proxied(library, server) as client:
        assert [client.post("https://api.example/orders", content=b"x").status_code for _ in range(2)] == [503, 200]
        assert [(request.method, request.path) for request in server.requests] == [
            ("CONNECT", ""),
            ("POST", "/orders"),
            ("POST", "/orders"),
        ]
        assert (server.executions, server.connections) == (2, 1)


@each_library
@pytest.mark.parametrize(("script", "executions"), [(["rst"], 0), (["ok", "rst"], 1)])
def test_a_lost_connect_is_no_execution_and_a_lost_response_inside_is(
    library: Any, script: list[str], executions: int
) -> None:
    with HostileServer(script) as server, proxied(library, server) as client:
        assert isinstance(outcome(lambda: client.post("https://api.example/orders", content=b"x")), str)
        assert server.executions == executions


def test_a_tunnel_through_a_tls_proxy_is_refused_with_the_reason() -> None:
    def block() -> None:
        with HostileServer(tls=True) as server:
            proxy = httpx.Proxy(server.url, ssl_context=server.client_context())
            with httpx.Client(proxy=proxy, verify=NO_TRUST, **OPTIONS) as client:
                assert outcome(lambda: client.get("https://api.example/")) in (*RESET, "ConnectError")

    with pytest.raises(ConfigError, match="TLS inside of TLS is not built"):
        block()
