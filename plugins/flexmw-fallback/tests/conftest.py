from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import pytest
from calls import Upstreams

from flexmw.testing import FakeClock, HostileServer

# A busy machine is no failure: properties are bounded by their number of examples, not by time.
hypothesis.settings.register_profile(
    "fallback", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=True
)
hypothesis.settings.load_profile("fallback")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def serve(clock: FakeClock) -> Iterator[Callable[..., Upstreams]]:
    """A function that starts one server for each script."""
    with ExitStack() as stack:

        def start(*scripts: Any, **options: Any) -> Upstreams:
            servers = [stack.enter_context(HostileServer(script, clock=clock, **options)) for script in scripts]
            return Upstreams(servers, clock)

        yield start
