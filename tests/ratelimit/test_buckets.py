"""What counts together and what does not: prefixes, two limiters of one process, one limiter around many routes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
import redis
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import flexmw
from flexmw import RateLimit
from flexmw.errors import ConfigError
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def opened() -> AsyncGenerator[list[RateLimit]]:
    """The limiters whose connections are closed at the end of a test."""
    limiters: list[RateLimit] = []
    yield limiters
    for limiter in limiters:
        for shared in limiter._shared:
            await shared.backend.close()


def framework(*paths: str) -> Starlette:
    async def fine(request: Any) -> PlainTextResponse:
        return PlainTextResponse("fine")

    return Starlette(routes=[Route(path, fine) for path in paths])


async def statuses(app: Any, *paths: str) -> list[int]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        return [(await client.get(path, headers={"authorization": "Bearer k"})).status_code for path in paths]


async def test_a_global_and_a_mounted_limiter_do_not_count_into_one_another(
    redis_url: str, opened: list[RateLimit]
) -> None:
    opened += (
        RateLimit("6/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
        RateLimit("6/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
    )
    mounted = Mount("/v1", opened[0].asgi(framework("/x")))
    app = flexmw.wrap_app(Starlette(routes=[mounted]), opened[1])
    assert await statuses(app, *["/v1/x"] * 7) == [200] * 6 + [429]


@pytest.mark.parametrize("options", [{}, {"tokens": "99/hour", "token_cost": 1}, {"concurrency": 1}])
async def test_a_function_may_make_the_global_and_the_mounted_limiter(
    redis_url: str, opened: list[RateLimit], options: dict[str, Any]
) -> None:
    def limiter(**more: Any) -> RateLimit:
        opened.append(RateLimit("6/hour", storage=redis_url, store_timeout=LONGEST_WAIT, **options, **more))
        return opened[-1]

    app = limiter().asgi(Starlette(routes=[Mount("/v1", limiter().asgi(framework("/x")))]))
    assert await statuses(app, *["/v1/x"] * 7) == [200] * 6 + [429]
    if "concurrency" not in options:
        told = Mount("/v1", limiter(prefix="one").asgi(framework("/x")))
        assert await statuses(limiter(prefix="one").asgi(Starlette(routes=[told])), *["/v1/x"] * 4) == [200] * 3 + [429]


async def test_two_lambdas_on_one_line_make_two_limiters(redis_url: str, opened: list[RateLimit]) -> None:
    makers = [
        lambda: RateLimit("2/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
        lambda: RateLimit("2/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
    ]
    opened += [make() for make in makers]
    for limiter in opened:
        assert await statuses(limiter.asgi(framework("/x")), *["/x"] * 3) == [200, 200, 429]
    opened.append(makers[0]())
    assert await statuses(opened[-1].asgi(framework("/x")), "/x") == [429], "one place in the source is one limiter"


async def test_two_services_of_one_program_have_buckets_of_their_own(redis_url: str, opened: list[RateLimit]) -> None:
    opened += (
        RateLimit("2/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
        RateLimit("2/hour", storage=redis_url, store_timeout=LONGEST_WAIT),
    )
    for limiter in opened:
        assert await statuses(limiter.asgi(framework("/x")), "/x", "/x", "/x") == [200, 200, 429]


@pytest.mark.parametrize("options", [{}, {"concurrency": 5}, {"tokens": "9/hour", "token_cost": 1}])
async def test_the_prefix_decides_who_shares_a_bucket(
    redis_url: str, opened: list[RateLimit], options: dict[str, Any]
) -> None:
    shop, also_shop, blog = (
        RateLimit("2/hour", storage=redis_url, store_timeout=LONGEST_WAIT, prefix=p, **options)
        for p in ("shop", "shop", "b:g")
    )
    opened += shop, also_shop, blog
    assert await statuses(shop.asgi(framework("/x")), "/x") == [200]
    assert await statuses(also_shop.asgi(framework("/x")), "/x", "/x") == [200, 429]
    assert await statuses(blog.asgi(framework("/x")), "/x", "/x", "/x") == [200, 200, 429]
    with redis.Redis.from_url(redis_url) as server:
        names = [name.decode() for name in server.scan_iter()]
    assert {name.removeprefix("LIMITS:").strip("{").partition(":LIMITER")[0] for name in names} == {"shop", "b:g"}


async def test_in_memory_a_prefix_that_is_given_twice_is_one_bucket() -> None:
    clock = FakeClock()
    first, second = (RateLimit("2/hour", prefix="shop", clock=clock) for _ in range(2))
    assert await statuses(first.asgi(framework("/x")), "/x") == [200]
    assert await statuses(second.asgi(framework("/x")), "/x", "/x") == [200, 429]
    alone = RateLimit("2/hour", clock=clock)
    assert await statuses(alone.asgi(framework("/x")), "/x", "/x", "/x") == [200, 200, 429]


@pytest.mark.parametrize("prefix", ["", "a b", "{x}", "a\n", 7])
def test_a_prefix_that_would_break_a_key_is_refused(prefix: Any) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(prefix="):
        RateLimit("1/hour", prefix=prefix)


def test_every_process_of_a_service_has_the_same_prefixes(tmp_path: Any) -> None:
    program = tmp_path / "service.py"
    program.write_text(
        """import flexmw
if __name__ == "__main__":
    import service  # as servers do that import the app by name
options = {"on_store_failure": "open"}
first = flexmw.RateLimit("1/hour", storage="redis://x", **options)
second = flexmw.RateLimit("1/hour", "9/day", storage="redis://x", **options)
third = flexmw.RateLimit("1/hour", storage="redis://y", **options)
print([limiter._prefix for limiter in (first, second, third)])
"""
    )
    environment = {"PYTHONPATH": f"{tmp_path}:.", "OTEL_SERVICE_NAME": "the shop"}
    run = subprocess.run(
        [sys.executable, str(program)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST_WAIT,
    )
    assert run.stdout.splitlines() == ["['the_shop', 'the_shop:2', 'the_shop']"] * 2


def test_the_same_limiter_twice_around_an_app_is_refused() -> None:
    limiter = RateLimit("1/hour")
    app = limiter.asgi(flexmw.Envelope().asgi(framework("/x")))
    limiter.asgi(framework("/y"))
    with pytest.raises(ConfigError, match="count twice"):
        limiter.asgi(flexmw.Envelope().asgi(app))


def test_an_app_is_wrapped_once() -> None:
    app = flexmw.wrap_app(framework("/x"), flexmw.Envelope())
    for again in (app, flexmw.Tagging().asgi(app)):
        with pytest.raises(ConfigError, match="wrap it or install them once"):
            flexmw.wrap_app(again, RateLimit("1/hour"))
    flexmw.wrap_app(Starlette(routes=[Mount("/", app)]), flexmw.Envelope())


async def test_two_limiters_of_one_app_both_count() -> None:
    app = flexmw.wrap_app(answering(), RateLimit("9/hour", key="address"), RateLimit("2/hour"))
    assert [(await call(app, "k")).status for _ in range(3)] == [200, 200, 429]
    assert [(await call(app, "other")).status for _ in range(3)] == [200, 200, 429]


TWO_TABLES = """
[[ratelimit]]
rates = ["3/hour"]
storage = "{url}"
store_timeout = 60.0

[[ratelimit]]
rates = ["3/hour"]
storage = "{url}"
store_timeout = 60.0
"""


def loaded(*files: Any) -> list[Any]:
    """The limiters of some files, which one line of an application reads."""
    return [limiter for file in files for limiter in flexmw.Stack.load(file).components]


async def test_two_tables_of_one_file_count_apart(tmp_path: Any, redis_url: str, opened: list[RateLimit]) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text(TWO_TABLES.format(url=redis_url))
    outer, inner = loaded(file)
    opened += outer, inner
    assert await statuses(outer.asgi(inner.asgi(framework("/x"))), *["/x"] * 4) == [200] * 3 + [429]
    assert [limiter._prefix for limiter in loaded(file)] == [outer._prefix, inner._prefix]


def test_a_file_is_the_same_file_by_its_relative_path(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text(TWO_TABLES.format(url="redis://x"))
    monkeypatch.chdir(tmp_path)
    prefixes = [[limiter._prefix for limiter in loaded(path)] for path in (file, "flexmw.toml", "./flexmw.toml")]
    assert prefixes == [prefixes[0]] * 3


def test_every_process_gives_the_tables_of_a_file_the_same_prefixes(tmp_path: Any) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text(TWO_TABLES.format(url="redis://x"))
    program = f"import flexmw; print([each._prefix for each in flexmw.Stack.load({str(file)!r}).components])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LONGEST_WAIT
    )
    assert run.stdout == "['', '2']\n"


def test_one_line_that_reads_two_files_makes_limiters_that_count_apart(tmp_path: Any, redis_url: str) -> None:
    files = [tmp_path / "public.toml", tmp_path / "admin.toml"]
    for file in files:
        file.write_text(f'[ratelimit]\nrates = ["4/hour"]\nstorage = "{redis_url}"\n')
    prefixes = [limiter._prefix for limiter in loaded(*files)]
    assert len(set(prefixes)) == 2
    assert [limiter._prefix for limiter in loaded(*files)] == prefixes
