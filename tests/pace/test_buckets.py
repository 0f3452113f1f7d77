"""Pace keeps the buckets of one credential apart: by header, by model, by path, and by ``key``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flexmw
import flexmw.httpx
import flexmw.httpx2
from flexmw.errors import ConfigError
from flexmw.pace import Pace
from flexmw.pace.buckets import bucket_name, classify, from_key
from flexmw.pace.registry import KnownRoot
from flexmw.testing import FakeClock
from tests.servers import Serve

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer sk-1"}
WINDOW = 60.0
BucketOf = Callable[[httpx.Request], str]


def path_of(request: httpx.Request) -> str:
    return request.url.path


def root_of(request: httpx.Request) -> str:
    return request.url.path.split("/")[1]


def model_of(request: httpx.Request) -> str:
    return str(json.loads(request.content)["model"])


@dataclass
class World:
    """A server with one fixed window for each bucket, and a paced client, over a clock that nobody waits for."""

    limits: dict[str, int]
    bucket_of: BucketOf = root_of
    headers: Callable[[str], dict[str, str]] = lambda bucket: {}
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    statuses: list[int] = field(default_factory=list[int])
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.windows: dict[str, tuple[float, int]] = {}
        pace = Pace(clock=self.clock, **self.options)
        transport = flexmw.httpx.Transport(pace, transport=httpx.MockTransport(self._respond), clock=self.clock)
        self.client = httpx.Client(transport=transport, base_url="https://api.example", headers=KEY)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        now, bucket = self.clock.monotonic(), self.bucket_of(request)
        limit = self.limits.get(bucket)
        self.clock.advance(0.001)
        if limit is None:
            self.statuses.append(200)
            return httpx.Response(200)
        ends, used = self.windows.get(bucket, (now + WINDOW, 0))
        if now >= ends:
            ends, used = now + WINDOW, 0
        refused = used >= limit
        self.windows[bucket] = ends, used + (not refused)
        numbers = {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(limit - self.windows[bucket][1]),
            "x-ratelimit-reset-requests": f"{int((ends - now) * 1000) + 1}ms",
            **self.headers(bucket),
        }
        self.statuses.append(429 if refused else 200)
        return httpx.Response(self.statuses[-1], headers=numbers)

    def get(self, *paths: str) -> float:
        """Send requests one by one; the seconds that they have waited."""
        before = len(self.clock.slept)
        for path in paths:
            self.client.get(path)
        return sum(self.clock.slept[before:])

    def ask(self, *models: str) -> float:
        before = len(self.clock.slept)
        for model in models:
            self.client.post("/v1/chat/completions", json={"messages": [], "model": model})
        return sum(self.clock.slept[before:])


@pytest.mark.parametrize("sizes", [{"small": 2, "big": 10000}, {"small": 2, "big": 2}])
def test_a_model_with_quota_never_waits_for_the_reset_of_another_model(sizes: dict[str, int]) -> None:
    world = World(sizes, model_of)
    assert world.ask("small", "small", "big", "big") == 0
    assert 59 < world.ask("small") < 61
    assert set(world.statuses) == {200}


def test_a_model_that_borrowed_the_quota_of_another_model_gives_it_back() -> None:
    world = World({"small": 3, "big": 3}, model_of)
    assert world.ask("small", "big", "big", "small", "small", "big") == 0
    assert set(world.statuses) == {200}


def test_an_exhausted_resource_delays_no_other_resource() -> None:
    world = World({"search": 2, "repos": 5000}, headers=lambda bucket: {"x-ratelimit-resource": bucket})
    assert world.get("/search/issues", "/search/code", "/repos/a/b", "/repos/c/d", "/repos/e/f") == 0
    assert 59 < world.get("/search/users") < 61
    assert set(world.statuses) == {200}


def test_paths_of_one_resource_share_its_bucket() -> None:
    world = World({"core": 4}, lambda request: "core", lambda bucket: {"x-ratelimit-resource": bucket})
    world.get("/user", "/user/repos", "/gists", "/user/orgs")
    assert 59 < world.get("/gists") < 61
    assert set(world.statuses) == {200}


def test_the_buckets_of_one_path_prefix_are_kept_apart_by_their_header() -> None:
    world = World(
        {"messages": 2, "reactions": 2},
        lambda r: r.url.path.split("/")[3],
        lambda bucket: {"x-ratelimit-bucket": bucket},
    )
    assert world.get(*["/channels/1/messages"] * 2, *["/channels/2/reactions"] * 2) == 0
    assert 59 < world.get("/channels/3/messages") < 61
    assert set(world.statuses) == {200}


def test_one_limit_over_all_paths_is_one_bucket() -> None:
    world = World({"all": 5}, lambda request: "all")
    paths = [f"/{name}" for name in "abc"]
    world.get(*paths)
    for _ in range(10):
        world.get(*paths)
    assert set(world.statuses) == {200}
    assert 5 * WINDOW <= sum(world.clock.slept) <= 7 * WINDOW


def test_a_path_that_is_new_while_its_bucket_is_exhausted_is_refused_at_most_once() -> None:
    world = World({"all": 2}, lambda request: "all")
    world.get("/a", "/a")
    world.get("/b", "/b", "/b", "/a")
    assert world.statuses.count(429) == 1
    assert world.statuses[2:4] == [429, 200]


def test_a_first_look_at_a_path_does_not_wait_for_one_other_path_that_begins_alike() -> None:
    world = World({"search": 2, "orders": 50}, lambda request: request.url.path.split("/")[2])
    assert world.get("/shop/search", "/shop/search", "/shop/orders", "/shop/orders") == 0
    assert 59 < world.get("/shop/search") < 61
    assert set(world.statuses) == {200}


def test_of_many_new_paths_that_begin_alike_one_is_refused_for_an_exhausted_bucket() -> None:
    world = World({"users": 2})
    world.get("/users/alice", "/users/alice", *[f"/users/{name}" for name in "abcdefgh"])
    assert world.statuses.count(429) == 1


def test_new_paths_that_begin_alike_wait_for_the_response_to_the_first_of_them() -> None:
    root = KnownRoot()
    root.add("", "alice")
    assert root.start_probe(0.0, 5.0)
    assert not root.start_probe(4.9, 5.0)
    root.add("", "bob")
    assert root.is_proven
    assert root.start_probe(5.0, 5.0)


def test_paths_that_begin_alike_have_one_bucket_until_responses_show_several() -> None:
    world = World({"users": 2})
    world.get("/users/alice", "/users/bob")
    assert 59 < world.get("/users/carol") < 61
    assert set(world.statuses) == {200}


@pytest.mark.parametrize("other", [2, 50])
def test_a_path_with_a_limit_of_its_own_does_not_wait_for_another_path(other: int) -> None:
    world = World({"a": 2, "b": other})
    assert world.get("/a", "/a", "/b", "/b") == 0
    assert 59 < world.get("/a") < 61
    assert set(world.statuses) == {200}


def test_a_path_without_limit_headers_is_not_paced() -> None:
    world = World({"a": 2})
    assert world.get("/a", *["/free"] * 5, "/a", *["/free"] * 20) == 0
    assert set(world.statuses) == {200}


def test_key_names_the_bucket() -> None:
    world = World({"x": 2, "y": 2}, lambda r: r.headers["x-tenant"], options={"key": lambda r: r.headers["x-tenant"]})
    for tenant in "xxyy":
        world.client.get("/same", headers={"x-tenant": tenant})
    assert world.clock.slept == []
    world.client.get("/other", headers={"x-tenant": "x"})
    assert 59 < sum(world.clock.slept) < 61
    assert set(world.statuses) == {200}


def test_a_key_that_is_no_text_is_refused_at_the_call() -> None:
    world = World({}, options={"key": lambda request: 3})
    with pytest.raises(ConfigError, match=r"Pace\(key=\.\.\.\)"):
        world.client.get("/")


def test_waits_and_unknown_headers_are_logged_without_the_credential(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="flexmw.pace")
    world = World({"a": 1})
    world.get("/free", "/free", "/a", "/a")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "flexmw.pace"]
    assert [level for level, _ in lines] == ["DEBUG", "INFO"]
    assert "https://api.example" in lines[0][1]
    assert "seconds" in lines[1][1]
    assert "sk-1" not in caplog.text


LIMITED = {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "3600s"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """A server whose models all report an exhausted limit with a reset in an hour."""
    while (await receive()).get("more_body"):
        pass
    headers = [(name.encode(), value.encode()) for name, value in LIMITED.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("storage", ["memory", "redis"])
async def test_each_model_is_sent_at_once_on_every_client(
    serve: Serve, redis_url: str, library: Any, storage: str, anyio_backend: str
) -> None:
    url = serve(app).url + "/v1/chat/completions"
    clock = FakeClock()
    pace = Pace(storage=redis_url if storage == "redis" else "memory://", clock=clock, max_wait=1e6)
    bindings = flexmw.httpx if library is httpx else flexmw.httpx2
    headers = {"authorization": f"Bearer {library.__name__} {storage} {anyio_backend}"}
    with library.Client(transport=bindings.Transport(pace, clock=clock), headers=headers) as client:
        for model in ("a", "b"):
            assert client.post(url, json={"model": model}).status_code == 200
    async with library.AsyncClient(transport=bindings.AsyncTransport(pace), headers=headers) as client:
        for model in ("c", "d"):
            assert (await client.post(url, json={"model": model})).status_code == 200
    assert clock.slept == []


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/repos/acme/issues/1347", "path:/repos/acme/issues/*"),
        ("/v1/files/file-0123456789abcdef", "path:/v1/files/*"),
        ("/x/6f9619ff-8b86-d011-b42d-00c04fc964ff/", "path:/x/*"),
        ("", "path:/"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", "model:/v1beta/models/gemini-2.5-flash:generateContent"),
        ("/v1/chat/completions", "model:/v1/chat/completions m"),
        ("/v1/models", "path:/v1/models"),
        (f"/x/{'a' * 40}", "path:/x/*"),
        (f"/x/{'a' * 39}", f"path:/x/{'a' * 39}"),
        (f"/x/{'a' * 15}1", "path:/x/*"),
        (f"/x/{'a' * 14}1", f"path:/x/{'a' * 14}1"),
    ],
)
def test_a_class_is_the_path_without_identifiers_or_the_path_and_the_model(path: str, key: str) -> None:
    assert classify(path, b'{"model": "m"}').key == key


@pytest.mark.parametrize(
    ("headers", "path", "name"),
    [
        ({"x-ratelimit-resource": "core", "x-ratelimit-bucket": "b"}, "/x", "resource:core"),
        ({"x-ratelimit-resource": "", "x-ratelimit-bucket": "b"}, "/x", "bucket:b"),
        ({"ratelimit-policy": '"p";q=10;w=60'}, "/x", 'policy:"p";q=10;w=60'),
        ({"ratelimit-policy": "10;w=60"}, "/x", ""),
        ({}, "/x", ""),
        ({}, "/v1/chat/completions", "model:/v1/chat/completions m"),
        ({"ratelimit-policy": '"p";q=10;w=60'}, "/v1/chat/completions", "model:/v1/chat/completions m"),
    ],
)
def test_a_response_names_its_bucket(headers: dict[str, str], path: str, name: str) -> None:
    assert bucket_name(headers, classify(path, b'{"model": "m"}')) == name


def test_the_model_of_a_long_body_is_read_from_either_end_and_not_from_a_message() -> None:
    message = json.dumps({"model": "wrong"}) * 10000
    for body in ({"model": "m", "messages": message}, {"messages": message, "model": "m"}):
        assert classify("/v1/messages", json.dumps(body).encode()).key == "model:/v1/messages m"
    assert classify("/v1/messages", json.dumps({"messages": message}).encode()).key == "path:/v1/messages"


@given(path=st.text(), body=st.none() | st.binary(), header=st.text())
def test_any_request_has_a_class_and_a_bucket_of_bounded_length(path: str, body: bytes | None, header: str) -> None:
    for each in (classify(path, body), classify("/v1/responses", body), from_key(path)):
        names = each.key, each.root, bucket_name({"x-ratelimit-bucket": header}, each)
        assert all(len(name) <= 120 for name in names)
