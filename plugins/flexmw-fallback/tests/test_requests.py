"""What an upstream gets: its own URL, headers and keys, and nothing of another upstream's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from calls import TWO, Upstreams, call
from flexmw_fallback import Fallback, Upstream
from flexmw_fallback._credentials import query_without_credentials, without_credentials
from hypothesis import given
from hypothesis import strategies as st

import flexmw
from flexmw.testing import FakeClock
from flexmw.testing.hostile import Response

Serve = Callable[..., Upstreams]

SECRET = "canary-5ecret-of-a"
NAMES = (
    *("Authorization", "Proxy-Authorization", "x-api-key", "api-key", "X-Goog-Api-Key", "x-auth-token", "Cookie"),
    *("PRIVATE-TOKEN", "X-Amz-Security-Token", "DPoP", "Signature", "X-Hub-Signature-256", "x-session-id", "apikey"),
    *("OpenAI-Organization", "OpenAI-Project", "X-Client-Secret", "x-csrf-token", "Idempotency-Key", "x-user-password"),
)
HARMLESS = ("accept", "content-type", "user-agent", "x-request-id", "anthropic-version", "openai-beta", "traceparent")

words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
secret_names = st.one_of(
    st.sampled_from(NAMES),
    st.builds("{}-{}-{}".format, words, st.sampled_from(["token", "secret", "api-key", "apikey", "auth"]), words),
)
forms = st.sampled_from(["{}", "Bearer {}", "Basic {}", "session={}; theme=dark", 'keyId="a", signature="{}"'])


@given(
    secrets=st.lists(st.tuples(secret_names, forms), min_size=1, max_size=6),
    copies=st.lists(st.tuples(words.map("x-{}".format), forms), max_size=3),
    harmless=st.sets(st.sampled_from(HARMLESS)),
)
def test_nothing_that_belongs_to_one_upstream_reaches_another(
    secrets: list[tuple[str, str]], copies: list[tuple[str, str]], harmless: set[str]
) -> None:
    given_pairs = [(name, form.format(SECRET)) for name, form in (*secrets, *copies)]
    kept = without_credentials([*given_pairs, *((name, "plain") for name in harmless)])
    assert not any(SECRET in value for _, value in kept)
    assert harmless <= {name for name, _ in kept}


@given(
    parameters=st.lists(st.sampled_from(["key", "api_key", "access_token", "sig", "X-Amz-Signature", "%6Bey"])),
    harmless=st.lists(st.sampled_from(["alt=sse", "api-version=2026-01-01", "page=2", "model=m"])),
)
def test_a_query_keeps_what_is_no_credential(parameters: list[str], harmless: list[str]) -> None:
    query = "&".join([*(f"{name}={SECRET}" for name in parameters), *harmless])
    assert query_without_credentials(query) == "&".join(harmless)


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_on_the_wire_the_next_upstream_sees_its_own_credentials_alone(serve: Serve, kind: Any) -> None:
    upstreams = serve("429:seconds=30", "ok")
    fallback = upstreams.fallback({}, {"headers": {"authorization": "Bearer of-b", "x-region": "eu"}})
    headers = dict.fromkeys(NAMES, SECRET) | {"x-trace": "1", "host": "virtual.test"}
    url = f"{upstreams.servers[0].url}/v1/jobs?key={SECRET}&alt=sse"
    result = call(upstreams, fallback, kind, url=url, headers=headers, client={"cookies": {"session": SECRET}})
    assert result.response.status_code == 200
    first, second = (server.requests[0] for server in upstreams.servers)
    assert first.header("authorization") == SECRET
    assert SECRET not in str(second)
    sent = {name.lower(): value for name, value in second.headers}
    assert (sent["authorization"], sent["x-region"], sent["x-trace"]) == ("Bearer of-b", "eu", "1")
    assert sent["host"] == upstreams.servers[1].url.removeprefix("http://")
    assert second.target == "/v1/jobs?alt=sse"
    assert second.body == first.body


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_cookies_of_the_next_upstream_do_not_reach_the_first(serve: Serve, kind: Any) -> None:
    of_b = (("Set-Cookie", f"session={SECRET}"),)
    upstreams = serve(["429:seconds=1", "ok"], Response(200, headers=of_b))
    result = call(upstreams, upstreams.fallback(), kind)
    assert (result.outcome.upstream, "set-cookie" in result.response.headers) == (upstreams.servers[1].url, False)


def test_a_redirect_of_the_next_upstream_is_not_followed_with_the_credentials_of_the_first(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams = serve("429:seconds=30", Response(307, headers=(("Location", "/elsewhere"),)))
    result = call(upstreams, upstreams.fallback(), client={"follow_redirects": True})
    assert (result.response.status_code, upstreams.seen) == (307, [1, 1])
    assert "redirect is not followed" in caplog.text


def test_a_key_of_the_caller_reaches_the_first_upstream_and_another_one_the_next(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", ["500", "ok"])
    b = upstreams.servers[1].url
    keyed = flexmw.Retry(clock=upstreams.clock, key_origins=(b,))
    assert call(upstreams, upstreams.fallback(), retry=keyed, headers={"idempotency-key": "k"}).error is None
    keys = [[request.header("idempotency-key") for request in server.requests] for server in upstreams.servers]
    derived = hashlib.sha256(f"k\0{b}".encode()).hexdigest()
    assert keys == [["k"], [derived, derived]]


def test_each_upstream_gets_a_fresh_key_of_its_own_and_keeps_it_for_every_visit(serve: Serve) -> None:
    upstreams = serve(["429:seconds=2", "429:seconds=1"], ["429:seconds=5"])
    retry = flexmw.Retry(
        clock=upstreams.clock, auto_key=True, key_origins=tuple(server.url for server in upstreams.servers)
    )
    result = call(upstreams, upstreams.fallback(attempts_total=9), retry=retry)
    assert result.response.status_code == 200
    (of_a, *again), (of_b, *_) = (
        [request.header("idempotency-key") for request in server.requests] for server in upstreams.servers
    )
    assert again == [of_a, of_a]
    assert None not in (of_a, of_b)
    assert of_a != of_b
    call(upstreams, upstreams.fallback(), retry=retry)
    assert upstreams.servers[0].requests[-1].header("idempotency-key") != of_a


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
@pytest.mark.parametrize("fault", ["rst", "500", "503:seconds=1"])
def test_under_an_honoured_key_the_same_upstream_is_asked_until_it_is_resolved(
    serve: Serve, kind: Any, fault: str
) -> None:
    upstreams = serve(["rst", fault, "ok"], "ok", dedup=True)
    retry = flexmw.Retry(clock=upstreams.clock, auto_key=True, key_origins=(upstreams.servers[0].url,))
    result = call(upstreams, upstreams.fallback(permit=("ambiguous",)), kind, retry=retry)
    assert (result.response.status_code, upstreams.executions) == (200, [1, 0])
    assert len({request.header("idempotency-key") for request in upstreams.servers[0].requests}) == 1


def test_rewrite_makes_another_request_of_a_copy(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")

    def rewrite(request: Any, upstream: Upstream) -> Any:
        assert "authorization" not in request.headers
        body = json.loads(request.content) | {"model": "name-of-b"}
        request.headers["x-changed"] = "on the copy"
        return f"{upstream.url}/deployments/m/jobs", {"x-version": "7"}, json.dumps(body).encode()

    fallback = upstreams.fallback({}, {"rewrite": rewrite})
    call(upstreams, fallback, headers={"authorization": SECRET})
    first, second = (server.requests[0] for server in upstreams.servers)
    assert (second.target, second.header("x-version")) == ("/v1/deployments/m/jobs", "7")
    assert json.loads(second.body) == {"model": "name-of-b", "n": 1}
    assert second.header("content-length") == str(len(second.body))
    assert (json.loads(first.body)["model"], first.header("x-changed")) == ("m", None)


def test_rewrite_leaves_what_it_returns_as_none(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")
    fallback = upstreams.fallback({}, {"rewrite": lambda request, upstream: (None, None, None)})
    call(upstreams, fallback, headers={"x-trace": "1"})
    first, second = (server.requests[0] for server in upstreams.servers)
    assert (second.target, second.body, second.header("x-trace")) == (first.target, first.body, "1")


def _raises(request: Any, upstream: Any) -> Any:
    raise KeyError("model")


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_a_rewrite_that_raises_is_found_before_anything_is_sent(serve: Serve, kind: Any) -> None:
    upstreams = serve("ok", "ok")
    result = call(upstreams, upstreams.fallback({}, {"rewrite": _raises}), kind)
    assert isinstance(result.error, flexmw.ConfigError)
    assert isinstance(result.error.__cause__, KeyError)
    assert upstreams.seen == [0, 0]


@pytest.mark.parametrize(
    "returned",
    [
        None,
        ("http://elsewhere.test/", None, None),
        (None, {"x": 1}, None),
        (None, None, "text"),
        (None, 7, None),
    ],
)
def test_a_rewrite_that_returns_what_cannot_be_sent_is_refused(serve: Serve, returned: Any) -> None:
    upstreams = serve("ok", "ok")
    result = call(upstreams, upstreams.fallback({}, {"rewrite": lambda request, upstream: returned}))
    assert isinstance(result.error, flexmw.ConfigError)
    assert "rewrite" in str(result.error)
    assert upstreams.seen == [0, 0]


def test_headers_may_come_from_a_function_and_none_removes_one(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")
    tokens = iter(["one", "two"])
    fallback = upstreams.fallback({}, {"headers": lambda: {"authorization": next(tokens), "x-trace": None}})
    for token in ("one", "two"):
        call(upstreams, fallback, headers={"x-trace": "1"})
        sent = upstreams.servers[1].requests[-1]
        assert (sent.header("authorization"), sent.header("x-trace")) == (token, None)
    assert isinstance(call(upstreams, fallback).error, flexmw.ConfigError)


def test_the_first_upstream_may_have_headers_of_its_own_too(serve: Serve) -> None:
    upstreams = serve("ok", "ok")
    fallback = upstreams.fallback({"headers": {"x-region": "us"}})
    call(upstreams, fallback, headers={"authorization": "Bearer own", "host": "virtual.test"})
    sent = upstreams.servers[0].requests[0]
    assert [value for name, value in sent.headers if name.lower() == "host"] == ["virtual.test"]
    assert (sent.header("x-region"), sent.header("authorization")) == ("us", "Bearer own")


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_a_body_that_can_be_read_once_is_sent_once(serve: Serve, kind: Any) -> None:
    upstreams = serve("429:seconds=30", "ok")

    def pieces() -> Iterator[bytes]:
        yield b"once"

    async def pieces_async() -> Any:
        yield b"once"

    result = call(upstreams, upstreams.fallback(), kind, content=pieces_async() if kind[1] else pieces())
    assert (result.response.status_code, upstreams.seen) == (429, [1, 0])


def test_such_a_body_goes_on_where_nothing_of_it_has_left(serve: Serve, clock: FakeClock) -> None:
    upstreams = serve("ok")
    fallback = Fallback(Upstream("http://nowhere.invalid"), Upstream(upstreams.servers[0].url), clock=clock)
    result = call(upstreams, fallback, url="http://nowhere.invalid/v1", content=iter([b"once"]))
    assert (result.response.status_code, upstreams.servers[0].requests[0].body) == (200, b"once")


def test_a_form_with_a_file_is_sent_again_from_its_start(serve: Serve, tmp_path: Any) -> None:
    upstreams = serve("429:seconds=30", "ok")
    (tmp_path / "a.wav").write_bytes(b"sound" * 1000)
    with (tmp_path / "a.wav").open("rb") as file:
        result = call(upstreams, upstreams.fallback(), files={"file": file}, data={"model": "m"})
    first, second = (server.requests[0] for server in upstreams.servers)
    assert (result.response.status_code, upstreams.executions) == (200, [0, 1])
    assert b"sound" * 1000 in second.body
    assert len(second.body) == len(first.body)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_other_requests_of_the_client_are_sent_as_they_are(
    serve: Serve, library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams = serve("ok", "429:seconds=30")
    url = f"{upstreams.servers[1].url}/v1/jobs"
    fallback = upstreams.fallback()
    for _ in range(2):
        result = call(upstreams, fallback, (library, False), url=url, headers={"authorization": "Bearer x"})
    assert (result.response.status_code, upstreams.seen[0]) == (429, 0)
    assert upstreams.servers[1].requests[0].header("authorization") == "Bearer x"
    assert caplog.text.count("go to no other upstream") == 1


@pytest.mark.parametrize(
    ("base", "url", "below"),
    [
        ("https://a.test/v1", "https://a.test/v1/jobs", "/jobs"),
        ("https://a.test/v1/", "https://A.test:443/v1", ""),
        ("https://a.test", "https://a.test/v1/jobs", "/v1/jobs"),
        ("https://a.test/v1", "https://a.test/v10/jobs", None),
        ("https://a.test/v1", "http://a.test/v1/jobs", None),
        ("https://a.test:8443/v1", "https://a.test/v1/jobs", None),
        ("http://[::1]:80/v1", "http://[::1]/v1/a%2Fb", "/a%2Fb"),
    ],
)
def test_a_path_below_the_first_upstream_is_found(base: str, url: str, below: str | None) -> None:
    assert Upstream(base).path_below(str(httpx.URL(url))) == below
