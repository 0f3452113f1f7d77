"""Who a caller is: renewed credentials, credentials of every name, and what a client can invent.

The promise in SECURITY.md: "No tenant ever sees a response that was stored for another".
"""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import flexmw
from flexmw.errors import ConfigError
from flexmw.idempotency import Idempotency
from flexmw.idempotency.caller import CallerNames
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.unkeyed import UnkeyedRequests
from flexmw.kit.asgi import Message, Scope
from flexmw.kit.exchange import Exchange
from flexmw.kit.identity import CallerHasher
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host

pytestmark = pytest.mark.anyio
SDK = {"x-stainless-retry-count": "0"}


async def call(app: Any, headers: dict[str, str], **options: Any) -> Caller:
    return await Caller(app, headers=headers, **{"token": None, **options})()


async def pair(first: dict[str, str], second: dict[str, str], **options: Any) -> tuple[int, Caller]:
    """The executions of one key with two sets of headers, and the second response."""
    host = Host()
    app = Idempotency(**options).asgi(host)
    await call(app, {**KEYED, **first})
    return host.runs, await call(app, {**KEYED, **second})


def code(caller: Caller) -> str:
    return str(json.loads(caller.answer)["error"]["code"])


SIGV4 = "AWS4-HMAC-SHA256 Credential=AK/20260101/r/s/aws4_request, SignedHeaders=host, Signature="
DIGEST = 'Digest username="u", nonce="n", nc=0000000{0}, cnonce="c{0}", response="r{0}"'
RENEWED: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"authorization": "Bearer at-1"}, {"authorization": "Bearer at-2"}),
    ({"authorization": SIGV4 + "a"}, {"authorization": SIGV4 + "b"}),
    ({"authorization": DIGEST.format(1)}, {"authorization": DIGEST.format(2)}),
    ({"authorization": "DPoP t", "dpop": "a"}, {"authorization": "DPoP t", "dpop": "b"}),
    ({"authorization": "Bearer t", "signature": "a"}, {"authorization": "Bearer t", "signature": "b"}),
    ({"cookie": "session=1; AWSALB=a"}, {"cookie": "session=1; AWSALB=b"}),
    ({"cookie": "session=1"}, {"cookie": "session=1; _ga=GA1.2.3"}),
    ({"authorization": "Bearer t", "x-auth-token": "a"}, {"authorization": "Bearer t", "x-auth-token": "b"}),
]


@pytest.mark.parametrize(("first", "second"), RENEWED)
async def test_a_renewed_credential_is_noticed_and_never_gets_the_response(
    first: dict[str, str], second: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    app = Idempotency().asgi(host)
    with caplog.at_level(logging.WARNING, "flexmw.idempotency"):
        for headers in (first, second, second, first):
            scope: Scope = {}
            replayed = (await call(app, {**KEYED, **headers}, scope=scope)).replayed
            facts = Exchange.of(scope).facts
            if headers is second and not replayed:
                assert facts["flexmw.idempotency.credential"] == "changed"
    assert host.runs == 2
    (message,) = caplog.messages
    assert "Idempotency(caller=...)" in message
    assert "at-1" not in message


@pytest.mark.parametrize(("first", "second"), RENEWED)
async def test_with_caller_one_key_is_one_execution_whatever_the_credential(
    first: dict[str, str], second: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def named(scope: Scope) -> str:
        return "user-7"

    for caller in (named, lambda scope: "user-7", lambda scope: b"user-7", lambda scope: 7):
        runs, response = await pair(first, second, caller=caller)
        assert runs == 1
        assert response.replayed
        assert response.answer_headers["idempotency-key-ttl"] == "86400"
    assert not caplog.messages


async def test_the_order_of_cookies_does_not_matter() -> None:
    runs, response = await pair({"cookie": "session=1; theme=dark"}, {"cookie": "theme=dark; session=1"})
    assert (runs, response.replayed) == (1, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "session=1"},
        {"x-api-key": "a", "cookie": "session=1"},
        {"authorization": SIGV4},
        {"authorization": DIGEST},
        {"authorization": "Signature keyId=a"},
        {"authorization": "DPoP a"},
        {"authorization": "Hawk id=a"},
        {"authorization": "Bearer a", "signature-input": "sig1=()"},
        {"authorization": "Bearer a", "x-signature": "b"},
        {"authorization": "Whatever a"},
    ],
    ids=lambda headers: " ".join(headers.values())[:20],
)
@pytest.mark.parametrize("keyed", [True, False])
async def test_keys_are_not_advertised_to_a_caller_that_changes(headers: dict[str, str], keyed: bool) -> None:
    shown = {**KEYED, **headers} if keyed else headers
    assert "idempotency-key-ttl" not in (await call(Idempotency().asgi(Host()), shown)).answer_headers
    named = Idempotency(caller=lambda scope: "user").asgi(Host())
    assert (await call(named, shown)).answer_headers["idempotency-key-ttl"] == "86400"
    unnamed = Idempotency(caller=lambda scope: None).asgi(Host())
    assert ("idempotency-key-ttl" in (await call(unnamed, shown)).answer_headers) is not keyed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer a"},
        {"authorization": "Basic YTpi"},
        {"authorization": "sk-one"},
        {"x-api-key": "a"},
        {"private-token": "a"},
        {"authorization": "Bearer a", "cookie": "theme=dark; _ga=1; csrftoken=2"},
    ],
    ids=str,
)
async def test_keys_are_advertised_to_a_caller_that_lasts(headers: dict[str, str]) -> None:
    response = await call(Idempotency().asgi(Host()), headers)
    assert response.answer_headers["idempotency-key-ttl"] == "86400"


@pytest.mark.parametrize("outer", [lambda app: app, flexmw.Envelope().asgi])
async def test_keys_are_not_advertised_by_the_response_that_makes_an_unknown_caller_a_cookie_caller(outer: Any) -> None:
    def login() -> Any:
        return outer(Idempotency().asgi(Host(headers=[(b"Set-Cookie", b"session=1")])))

    assert "idempotency-key-ttl" not in (await call(login(), KEYED)).answer_headers
    with_token = await call(login(), {**KEYED, "authorization": "Bearer a"})
    assert with_token.answer_headers["idempotency-key-ttl"] == "86400"


SEPARATE: list[tuple[dict[str, str], dict[str, str]]] = [
    *(({name: "tenant-1"}, {name: "tenant-2"}) for name in ("apikey", "PRIVATE-TOKEN", "Ocp-Apim-Subscription-Key")),
    *(({name: "tenant-1"}, {name: "tenant-2"}) for name in ("X-Session-Id", "X-Forwarded-User", "X-Client-Cert-Sha")),
    *(({name: "a"}, {name: "b"}) for name in ("x-forwarded-client-cert", "remote-user", "x-goog-iap-jwt-assertion")),
    ({"authorization": "Bearer a", "host": "one.example"}, {"authorization": "Bearer a", "host": "two.example"}),
    (
        {"authorization": "Bearer a", "x-forwarded-host": "one"},
        {"authorization": "Bearer a", "x-forwarded-host": "two"},
    ),
    (
        {"authorization": "Bearer a", "openai-organization": "1"},
        {"authorization": "Bearer a", "openai-organization": "2"},
    ),
    (
        {"authorization": "Basic staging", "cookie": "session=1"},
        {"authorization": "Basic staging", "cookie": "session=2"},
    ),
    ({"x-appcheck": "1", "cookie": "session=1"}, {"x-appcheck": "1", "cookie": "session=2"}),
    ({"apikey": "public", "cookie": "user=1"}, {"apikey": "public", "cookie": "user=2"}),
    ({"proxy-authorization": "Basic a"}, {"proxy-authorization": "Basic b"}),
    ({"host": "one.example"}, {"host": "two.example"}),
]


@pytest.mark.parametrize(("first", "second"), SEPARATE, ids=str)
async def test_two_credentials_of_one_address_never_share_a_response(
    first: dict[str, str], second: dict[str, str]
) -> None:
    host = Host()
    app = Idempotency().asgi(host)
    assert [(await call(app, {**KEYED, **shown})).replayed for shown in (first, second, first, second)] == [
        *(False, False),
        *(True, True),
    ]
    host = Host()
    app = Idempotency(sdk_retries=True).asgi(host)
    await call(app, {**SDK, **first})
    assert not (await call(app, {"x-stainless-retry-count": "1", **second})).replayed


async def test_a_host_is_the_same_in_any_case_and_on_any_port() -> None:
    for first, second in (("api.example:8000", "API.example:8001"), ("[2001:db8::1]:80", "[2001:db8::1]")):
        runs, response = await pair({"host": first}, {"host": second})
        assert (runs, response.replayed) == (1, True)


async def test_tls_client_certificates_are_told_apart() -> None:
    host = Host()
    app = Idempotency().asgi(host)
    for number in (1, 2):
        for tls in (
            {"client_cert_chain": [f"cert {number}"]},
            {"client_cert_chain": (), "client_cert_name": f"CN={number}"},
            {"client_cert_name": f"CN=half of a pair \ud800 {number}"},
        ):
            assert not (await call(app, KEYED, extensions={"tls": tls})).replayed
            assert (await call(app, KEYED, extensions={"tls": tls})).replayed
    assert (await call(app, KEYED, extensions={"tls": {"client_cert_name": None}})).answer == b"run 7"


async def test_signed_urls_are_callers_and_with_caller_one_request() -> None:
    def signed(number: int) -> bytes:
        return b"part=1&X-Amz-Credential=AK&X-Amz-Date=%d&X-Amz-Signature=%d" % (number, number)

    host = Host()
    app = Idempotency().asgi(host)
    first, second = [await call(app, KEYED, query=signed(number)) for number in (1, 2)]
    assert not second.replayed
    assert "idempotency-key-ttl" not in first.answer_headers
    app = Idempotency(caller=lambda scope: "AK").asgi(Host())
    first, second = [await call(app, KEYED, query=signed(number)) for number in (1, 2)]
    assert second.replayed
    assert code(await call(app, KEYED, query=b"part=2&" + signed(1))) == "idempotency_key_reused"


async def test_no_header_or_cookie_of_the_client_can_pass_for_the_name_from_caller() -> None:
    app = Idempotency(caller=lambda scope: scope.get("user")).asgi(Host())
    await call(app, KEYED, scope={"user": "ann"})
    for forged in ({"authorization": "Bearer ann"}, {"authorization": "ann"}, {"cookie": "ann"}, {"user": "ann"}, {}):
        assert not (await call(app, {**KEYED, **forged})).replayed


@pytest.mark.parametrize("returned", [True, 1j, ["a"], {"a": 1}], ids=repr)
async def test_a_caller_function_that_returns_no_name_is_an_error_of_the_contract(returned: Any) -> None:
    host = Host()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(caller=lambda scope: returned))
    response = await call(app, KEYED)
    assert (response.status, host.runs) == (500, 0)
    assert isinstance(response.raised, ConfigError)
    assert "Idempotency(caller=...)" in str(response.raised)


@pytest.mark.parametrize("returned", ["\udc80", b"\xff", 7, ("acme", 7)], ids=repr)
async def test_every_value_that_names_a_caller_is_understood(returned: Any) -> None:
    runs, response = await pair({}, {}, caller=lambda scope: returned)
    assert (runs, response.replayed) == (1, True)


async def test_the_caller_can_be_named_by_where_its_name_stands(caplog: pytest.LogCaptureFixture) -> None:
    for caller, same, other in (
        ("cookie:session", ("session=1; AWSALB=a", "session=1; AWSALB=b"), "session=2"),
        ("cookie:session", ("session=1; _ga=1", "session=1"), "session=2; _ga=1"),
    ):
        app = Idempotency(caller=caller).asgi(Host())
        replayed = [(await call(app, {**KEYED, "cookie": cookie})).replayed for cookie in (*same, other)]
        assert replayed == [False, True, False]
    for caller, scopes in (
        ("user", [{"user": "ann"}, {"user": "ann"}, {"user": "bob"}]),
        ("state:tenant", [{"state": {"tenant": 1}}, {"state": {"tenant": 1}}, {"state": {"tenant": 2}}]),
    ):
        app = Idempotency(caller=caller).asgi(Host())
        tokens = ("t-1", "t-2", "t-1")
        replayed = [
            (await call(app, KEYED, scope=dict(scope), token=token)).replayed
            for scope, token in zip(scopes, tokens, strict=True)
        ]
        assert replayed == [False, True, False]
    with caplog.at_level(logging.WARNING, "flexmw.idempotency"):
        app = Idempotency(caller="user").asgi(Host())
        for _ in range(3):
            await call(app, KEYED)
    (message,) = caplog.messages
    assert message.startswith("Idempotency(caller='user')")


@pytest.mark.parametrize("caller", ["bearer", "address", "session", "cookie:", 7], ids=repr)
def test_a_caller_that_cannot_be_is_refused(caller: Any) -> None:
    with pytest.raises(ConfigError, match=r"Idempotency\(caller=\.\.\.\).*cookie:<name>"):
        Idempotency(caller=caller)


async def test_an_sdk_call_without_a_credential_is_not_joined_by_address(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    app = Idempotency(sdk_retries=True).asgi(host)
    with caplog.at_level(logging.WARNING, "flexmw.idempotency"):
        await call(app, SDK)
        assert not caplog.messages
        for count in ("1", "2"):
            assert not (await call(app, {"x-stainless-retry-count": count, "host": "api.example"})).replayed
    assert host.runs == 3
    assert "Idempotency(sdk_retries=True)" in caplog.messages[0]
    assert len(caplog.messages) == 1
    named = Idempotency(sdk_retries=True, caller=lambda scope: "ann").asgi(Host())
    await call(named, SDK)
    assert (await call(named, {"x-stainless-retry-count": "1"})).replayed


async def test_other_keys_requests_addresses_and_times_are_not_noticed(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    app = Idempotency(ttl=60.0, clock=clock).asgi(Host())
    with caplog.at_level(logging.WARNING, "flexmw.idempotency"):
        await call(app, {**KEYED, "authorization": "Bearer a"})
        await call(app, {"idempotency-key": "other", "authorization": "Bearer b"})
        await call(app, {**KEYED, "authorization": "Bearer c"}, body=b"other")
        await call(app, {**KEYED, "authorization": "Bearer d"}, client=("198.51.100.1", 1))
        clock.advance(61.0)
        await call(app, {**KEYED, "authorization": "Bearer e"})
        assert not caplog.messages
        await call(app, {**KEYED, "authorization": "Bearer f"})
    assert len(caplog.messages) == 1


async def test_changed_credentials_are_counted() -> None:
    reader = InMemoryMetricReader()
    tagging = flexmw.Tagging(meter_provider=MeterProvider([reader]))
    app = flexmw.wrap_app(Host(), tagging, flexmw.Envelope(), Idempotency())
    for token in ("a", "b", "b", "c"):
        await call(app, KEYED, token=token)
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        (point.attributes, point.value)  # type: ignore[union-attr]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "flexmw.idempotency.changed_credentials"
        for point in metric.data.data_points
    ]
    assert points == [({"flexmw.idempotency.result": "stored"}, 2)]


async def test_the_key_can_be_in_another_header_and_the_errors_name_it() -> None:
    host = Host()
    app = Idempotency(header="X-Idempotency-Key", required=True).asgi(host)
    assert not (await call(app, {"x-idempotency-key": "1"}, token="sk-one")).replayed
    assert (await call(app, {"x-idempotency-key": "1"}, token="sk-one")).replayed
    # Clients that follow the draft rely on what Idempotency-Key-TTL says.
    assert (await call(app, {"idempotency-key": "1"}, token="sk-one")).replayed
    assert not (await call(app, {"x-idempotency-key": "2", "idempotency-key": "1"}, token="sk-one")).replayed
    for headers in ({}, {"x-idempotency-key": ""}):
        error = json.loads((await call(app, headers)).answer)["error"]
        assert error["param"] == "X-Idempotency-Key"
        assert "X-Idempotency-Key" in error["message"]
    reused = await call(app, {"x-idempotency-key": "1"}, token="sk-one", body=b"other")
    assert json.loads(reused.answer)["error"]["param"] == "X-Idempotency-Key"


async def test_a_key_header_named_like_a_credential_names_no_caller() -> None:
    app = Idempotency(header="X-Request-Token").asgi(Host())
    names = CallerNames("p", caller=None, hasher=CallerHasher(), key_header=b"x-request-token")
    assert names.shown({"headers": [(b"x-request-token", b"1")]}).lines == []
    assert not (await call(app, {"x-request-token": "1"})).replayed
    assert (await call(app, {"x-request-token": "1"})).replayed


@pytest.mark.parametrize("header", ["", "two words", "Authorization", "Cookie", "content-type", "host", 7], ids=repr)
def test_a_key_header_that_cannot_be_is_refused(header: Any) -> None:
    with pytest.raises(ConfigError, match=r"Idempotency\(header=\.\.\.\)"):
        Idempotency(header=header)


async def test_required_and_exempt_take_paths() -> None:
    async def is_charge(scope: Scope) -> bool:
        return bool(scope["path"] == "/charges")

    for required in ("POST /charges", ["POST /charges", "/refunds/{id}"], is_charge):
        app = Idempotency(required=required).asgi(Host())
        assert (await call(app, {}, path="/charges")).status == 400
        assert (await call(app, {}, path="/orders")).status == 200
    assert (await call(Idempotency(required="/refunds/{id}").asgi(Host()), {}, path="/refunds/7")).status == 400
    assert (await call(Idempotency(required="/charges").asgi(Host()), {}, path="//charges/")).status == 400
    for exempt in ("/health", ["/health", "POST /metrics"], lambda scope: scope["path"] == "/health"):
        host = Host()
        app = Idempotency(exempt=exempt).asgi(host)
        for _ in range(2):
            await call(app, KEYED, path="/health")
        assert host.runs == 2
        assert not (await call(app, KEYED, path="/orders")).replayed
        assert (await call(app, KEYED, path="/orders")).replayed


@pytest.mark.parametrize("option", ["required", "exempt"])
@pytest.mark.parametrize("value", ["health", "/users/<id>", "GET|POST /x", 7], ids=repr)
def test_a_path_that_no_request_can_have_is_refused_by_the_options_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Idempotency\({option}=\.\.\.\)"):
        Idempotency(**{option: value})


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_credential_can_be_refused_before_the_body_is_read(asynchronous: bool) -> None:
    async def accepts(scope: Scope) -> bool:
        return (b"authorization", b"Bearer good") in scope["headers"]

    function: Any = accepts if asynchronous else lambda scope: (b"authorization", b"Bearer good") in scope["headers"]
    store, host, read = MemoryStore(), Host(), 0
    app = Idempotency(storage=store, authenticated=function, sdk_retries=True).asgi(host)

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def post(headers: list[tuple[bytes, bytes]]) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        return sent

    for shown in ((b"idempotency-key", b"1"), (b"x-stainless-retry-count", b"0")):
        sent = await post([shown, (b"authorization", b"Bearer bad")])
        assert (sent[0]["status"], read, host.runs) == (401, 0, 0)
        assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
        assert json.loads(sent[1]["body"])["error"]["code"] == "invalid_api_key"
    assert [key async for key, _ in store.scan()] == []
    assert (await post([(b"idempotency-key", b"1"), (b"authorization", b"Bearer good")]))[0]["status"] == 200
    assert (await post([(b"authorization", b"Bearer bad")]))[0]["status"] == 200  # without a key the app decides


async def test_a_stored_response_needs_a_credential_that_is_still_accepted() -> None:
    accepted = True
    app = Idempotency(caller=lambda scope: "ann", authenticated=lambda scope: accepted).asgi(Host())
    await call(app, KEYED)
    assert (await call(app, KEYED)).replayed
    accepted = False
    assert (await call(app, KEYED)).status == 401


async def upload(app: Any, key: str, size: int, proceed: anyio.Event, out: list[int], **headers: str) -> None:
    """Send half of a body, and the other half when told to."""
    parts = [size // 2, size - size // 2]

    async def receive() -> Message:
        if len(parts) == 1:
            await proceed.wait()
        return {"type": "http.request", "body": b"x" * parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            out.append(message["status"])
            if message["status"] == 503:
                assert dict(message["headers"])[b"retry-after"] == b"1"

    raw = [(b"idempotency-key", key.encode()), *((name.encode(), value.encode()) for name, value in headers.items())]
    await app({"type": "http", "method": "POST", "path": "/", "headers": raw, "client": None}, receive, send)


async def test_the_bodies_of_all_requests_are_bounded_together() -> None:
    host, proceed, out = Host(), anyio.Event(), list[int]()
    app = Idempotency(max_reading=1000).asgi(host)
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(upload, app, f"k-{number}", 500, proceed, out)
        await anyio.wait_all_tasks_blocked()
        await upload(app, "late", 20, proceed, out)
        assert out == [503]
        proceed.set()
    assert set(out) == {200, 503}
    assert host.runs == out.count(200)
    for number in range(10):  # everything was given back
        await upload(app, f"again-{number}", 1000, proceed, out)
    assert out[5:] == [200] * 10
    await upload(app, "too-long", 1001, proceed, out)
    assert out[-1] == 413


async def test_a_body_counts_until_the_app_has_got_it() -> None:
    host, proceed, out = Host().hold(), anyio.Event(), list[int]()
    proceed.set()
    app = Idempotency(max_reading=1000).asgi(host)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(upload, app, f"k-{number}", 1000, proceed, out)
            await anyio.wait_all_tasks_blocked()
        host.proceed.set()
    assert out == [200] * 5


async def test_an_announced_length_above_the_bound_is_refused_unread() -> None:
    host, proceed, out = Host(), anyio.Event(), list[int]()
    app = Idempotency(max_request=1000).asgi(host)
    for length in ("1001", "9" * 5000):
        await upload(app, "k", 20, proceed, out, **{"content-length": length})
    assert (out, host.runs) == ([413, 413], 0)


async def test_a_refused_credential_leaves_nothing_in_the_store() -> None:
    store = MemoryStore()
    for status in (401, 403):
        app = Idempotency(storage=store, sdk_retries=True).asgi(Host(status=status))
        for headers in (KEYED, {"idempotency-key": "other"}):
            await call(app, headers)
        if status == 401:
            await call(app, KEYED, token="sk-bad")
        for count in ("0", "1"):
            await call(app, {"x-stainless-retry-count": count}, token="sk-bad")
        entries = [held.entry async for _, held in store.scan()]
        assert entries == [] if status == 401 else b"sk-bad" not in b"".join(entries)
    app = Idempotency(storage=store).asgi(Host(status=403))
    assert [(await call(app, KEYED, token="sk-one")).replayed for _ in range(2)] == [False, True]


PROXIED = {"x-stainless-retry-count": "0", "authorization": "Bearer a", "x-request-id": "r-1"}


@pytest.mark.parametrize("trusted", [("192.0.2.0/24",), 1], ids=repr)
async def test_a_keyless_call_that_a_proxy_repeats_is_one_call(trusted: Any) -> None:
    host = Host()
    app = Idempotency(sdk_retries=True, trusted_proxies=trusted).asgi(host)
    assert [(await call(app, PROXIED)).replayed for _ in range(3)] == [False, True, True]
    assert not (await call(app, {**PROXIED, "x-request-id": "r-2"})).replayed  # an equal call of its own
    retry = {**PROXIED, "x-stainless-retry-count": "1", "x-request-id": "r-3"}
    assert [(await call(app, retry)).replayed for _ in range(2)] == [True, True]
    assert not (await call(app, {**PROXIED, "authorization": "Bearer b"})).replayed
    assert not (await call(app, PROXIED, body=b"other")).replayed
    assert host.runs == 4


async def test_a_keyless_call_that_a_proxy_repeats_while_it_runs_waits_for_its_response() -> None:
    host = Host().hold()
    app = Idempotency(sdk_retries=True, trusted_proxies=1).asgi(host)
    first, second = (Caller(app, headers=PROXIED, token=None) for _ in range(2))
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await host.started.wait()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        host.proceed.set()
    assert (host.runs, first.answer, second.answer) == (1, b"run 1", b"run 1")


async def test_a_request_id_that_no_proxy_vouches_for_joins_nothing() -> None:
    host = Host()
    app = Idempotency(sdk_retries=True, trusted_proxies=("10.0.0.0/8",)).asgi(host)
    assert [(await call(app, PROXIED)).replayed for _ in range(2)] == [False, False]
    app = Idempotency(sdk_retries=True).asgi(host)
    assert [(await call(app, PROXIED)).replayed for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("lines", "query", "lasts"),
    [
        ([(b"authorization", b"Bearer a")], b"", True),
        ([(b"authorization", b"Bearer a")], b"page=2", True),
        ([(b"accept", b"a"), (b"accept", b"b")], b"", True),
        ([(b"authorization", b"Digest a"), (b"authorization", b"Bearer a")], b"", False),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Digest a")], b"", False),
        ([(b"x-signature", b"")], b"", True),
        ([(b"x-signature", b"a")], b"", False),
        ([(b"authorization", b"Bearer a")], b"X-Amz-Signature=a", False),
    ],
)
def test_a_caller_lasts_whether_or_not_its_lines_are_read(
    lines: list[tuple[bytes, bytes]], query: bytes, lasts: bool
) -> None:
    callers = CallerNames("keys", caller=None, hasher=CallerHasher())
    scope: Scope = {"headers": lines, "query_string": query}
    assert callers.shown(scope).is_lasting is lasts
    unkeyed = UnkeyedRequests((b"idempotency-key",))
    # It may leave a request to a closer look: one with an empty signature is such a request.
    assert [unkeyed.recognises(scope) for _ in range(2)] == [lasts and lines[0] != (b"x-signature", b"")] * 2
