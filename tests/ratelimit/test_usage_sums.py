"""The small form of ``python -m benchmarks.tokens``: what is charged is exactly what the models have used."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.tokens import run, served_app
from tests.servers import Serve


@pytest.mark.parametrize("keyed", [False, True], ids=["without-keys", "with-keys"])
def test_streams_settle_to_the_sum_of_their_usage_although_clients_leave(
    serve: Serve, redis_url: str, keyed: bool
) -> None:
    urls = [serve(served_app(redis_url, keyed=keyed), lifespan="off").url for _ in range(2)]
    figures = asyncio.run(run(urls, streams=20, keyed=keyed, is_shared=True))
    assert (figures.left, figures.refused) == (4, 0)
    assert figures.cut == (0 if keyed else 4)
    assert figures.charged == figures.used
