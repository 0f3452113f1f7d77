"""What the limiter's tests look into the store with."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import redis


@pytest.fixture
def server(redis_url: str) -> Generator[redis.Redis]:
    """The redis-server itself, past the limiter."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
