"""The count of an SDK's repetitions on the stack. The functions stand for those of SDKs that are not installed here."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import pytest

from flexmw.kit.stack_count import sdk_count_on_stack


def defined_in(module: str, source: str) -> dict[str, Any]:
    """The names that a module would have."""
    names: dict[str, Any] = {"__name__": module}
    exec(source, names)
    return names


FERN = """
def request(send, retries=0):
    return send() if retries == 2 else request(send, retries=retries + 1)
"""
GITHUBKIT = """
def request(send):
    retry_count = 3
    return send()

async def arequest(send):
    retry_count = 3
    return send()
"""
SPEAKEASY = """
def retry_with_backoff(func):
    retries = 1
    return func()

async def retry_with_backoff_async(func):
    retries = 1
    return func()
"""

LITELLM = """
def wrapper(send, **kwargs):
    kwargs["metadata"] = {"attempted_retries": 2}
    return send()

def wrapper_async(send, *args, **kwargs):
    return send()
"""
TYPESENSE = """
def _execute_request(send, num_retries=0):
    return send() if num_retries == 2 else _execute_request(send, num_retries=num_retries + 1)

async def _execute_stream_request(send, num_retries=0):
    return send() if num_retries == 2 else await _execute_stream_request(send, num_retries=num_retries + 1)
"""
ELASTIC = """
async def perform_request(send):
    for attempt in range(4):
        if attempt == 3:
            return send()
"""
HUGGINGFACE = """
def _http_backoff_base(send):
    nb_tries = 0
    while True:
        nb_tries += 1
        if nb_tries == 3:
            yield send()
            return

def http_backoff(send):
    return next(_http_backoff_base(send))
"""
PORTKEY = """
def _request(send, *, retry_count=0):
    return send() if retry_count == 1 else _request(send, retry_count=retry_count + 1)
"""
STAINLESS = """
from types import SimpleNamespace

def request(send):
    request, retries_taken = SimpleNamespace(headers=HEADERS), 2
    return send()
"""
EARLIER_STAINLESS = """
def _request(send, *, remaining_retries=2):
    return send() if remaining_retries == 0 else _retry_request(send, remaining_retries)

def _retry_request(send, remaining_retries):
    return _request(send, remaining_retries=remaining_retries - 1)
"""
COREHTTP = """
def send(call):
    retry_settings = {"history": ["first", "second"]}
    return call()
"""
SVIX = """
def _request_sync(send):
    for retry_count, seconds in enumerate([0.05] * WAITS):
        if retry_count == 1:
            return send()
    return send()
"""
IN_A_LOOP = """
async def NAME(send):
    for COUNT in range(FIRST, 9):
        if COUNT == FIRST + 2:
            return send()
"""
BACKOFF = """
from types import SimpleNamespace

def retry(send):
    target, tries = SimpleNamespace(__module__=PACKAGE), 3
    return send()
"""
TENACITY = """
from types import SimpleNamespace

def __call__(send):
    retry_state = SimpleNamespace(fn=SimpleNamespace(__module__=PACKAGE), attempt_number=2)
    return send()
"""


def in_a_loop(name: str, count: str, first: int = 0) -> tuple[str, str]:
    """The source of a function of an SDK that repeats a call in a loop, and the name of the function."""
    return IN_A_LOOP.replace("NAME", name).replace("COUNT", count).replace("FIRST", str(first)), name


@pytest.mark.parametrize(
    ("module", "source", "name", "count"),
    [
        ("huggingface_hub.utils._http", HUGGINGFACE, "http_backoff", 2),
        ("firecrawl.v2.utils.http_client_async", *in_a_loop("post", "attempt"), 2),
        ("firecrawl.v2.utils.http_client_async", *in_a_loop("post_multipart", "attempt"), 2),
        ("firecrawl.v2.utils.http_client_async", *in_a_loop("patch", "attempt"), 2),
        ("langsmith.async_client", *in_a_loop("_arequest_with_retries", "attempt"), 2),
        ("agents.run_internal.model_retry", *in_a_loop("get_response_with_retry", "request_attempt", 1), 2),
        ("agents.run_internal.model_retry", *in_a_loop("stream_response_with_retry", "request_attempt", 1), 2),
        ("prefect.client.base", *in_a_loop("_send_with_retry", "try_count"), 2),
        ("portkey_ai.api_resources.base_client", PORTKEY, "_request", 1),
        ("portkey_ai._vendor.openai._base_client", *in_a_loop("request", "retries_taken"), 2),
        ("program", *in_a_loop("post", "attempt"), None),
        ("increase._base_client", STAINLESS.replace("HEADERS", "{}"), "request", 2),
        ("lithic._base_client", STAINLESS.replace("HEADERS", "{'x-stainless-retry-count': '2'}"), "request", None),
        ("acme._base_client", EARLIER_STAINLESS, "_request", 2),
        ("zai.core._http_client", EARLIER_STAINLESS, "_request", 2),
        ("agno.models.base", *in_a_loop("_ainvoke_with_retry", "attempt"), 2),
        ("agno.agent._run", *in_a_loop("_run", "attempt"), 2),
        ("aiobotocore.endpoint", *in_a_loop("_send_request", "attempts", 1), 2),
        ("apify_client.http_clients._base", *in_a_loop("_retry_with_exp_backoff", "attempt", 1), 2),
        ("corehttp.runtime.policies._retry", COREHTTP, "send", 2),
        ("fal_client.client", *in_a_loop("_maybe_retry_request", "attempt", 1), 2),
        ("inngest._internal.client_lib.client", *in_a_loop("send_sync", "attempt"), 2),
        ("stripe._http_client", *in_a_loop("_request_with_retries_internal", "num_retries"), 2),
        ("svix.api.common", SVIX.replace("WAITS", "0"), "_request_sync", 0),
        ("svix.api.common", SVIX.replace("WAITS", "3"), "_request_sync", 2),
        ("workos._base_client", *in_a_loop("request", "attempt"), 2),
        ("backoff._sync", BACKOFF.replace("PACKAGE", "'langfuse._task_manager.score_consumer'"), "retry", 2),
        ("backoff._async", BACKOFF.replace("PACKAGE", "'program'"), "retry", None),
        ("backoff._sync", BACKOFF.replace("PACKAGE", "None"), "retry", None),
        ("tenacity", TENACITY.replace("PACKAGE", "'haystack.utils.requests_utils'"), "__call__", 1),
        ("acme.core.http_client", FERN, "request", 2),
        ("githubkit.core", GITHUBKIT, "request", 3),
        ("githubkit.core", GITHUBKIT, "arequest", 3),
        ("acme.utils.retries", SPEAKEASY, "retry_with_backoff", 1),
        ("acme.utils.retries", SPEAKEASY, "retry_with_backoff_async", 1),
        ("google.genai._gaos.utils.retries", *in_a_loop("retry_with_attempt_count_backoff", "retries"), 2),
        ("anthropic.lib.tools._beta_session_runner", *in_a_loop("_send_result", "attempt", 1), 2),
        ("typesense.sync.api_call", TYPESENSE, "_execute_request", 2),
        ("typesense.async_.api_call", TYPESENSE, "_execute_stream_request", 2),
        ("elastic_transport._async_transport", ELASTIC, "perform_request", 3),
        ("litellm.utils", LITELLM, "wrapper", 2),
        ("litellm.utils", LITELLM, "wrapper_async", 0),
        ("tenacity", TENACITY.replace("PACKAGE", "'litellm.main'"), "__call__", None),
        ("tenacity.asyncio", TENACITY.replace("PACKAGE", "'llama_index.llms.openai.base'"), "__call__", 1),
        ("tenacity", TENACITY.replace("PACKAGE", "'program'"), "__call__", None),
    ],
)
def test_the_loop_of_an_sdk_has_the_count(module: str, source: str, name: str, count: int | None) -> None:
    repeats: Callable[..., Any] = defined_in(module, source)[name]

    async def run() -> Any:
        result = repeats(sdk_count_on_stack)
        return await result if hasattr(result, "__await__") else result

    assert anyio.run(run) == count


def test_tenacity_counts_for_the_package_that_calls_it() -> None:
    repeats = defined_in("tenacity", TENACITY.replace("PACKAGE", "'google.genai'"))["__call__"]
    call = "def call(repeats, send): return repeats(send)"
    assert defined_in("google.genai", call)["call"](repeats, sdk_count_on_stack) == 1
    assert defined_in("program", call)["call"](repeats, sdk_count_on_stack) is None
    decorated = defined_in("tenacity.asyncio", call)["call"]
    calls = "def call(decorated, repeats, send): return decorated(repeats, send)"
    assert defined_in("google.genai", calls)["call"](decorated, repeats, sdk_count_on_stack) == 1
    assert defined_in("program", calls)["call"](decorated, repeats, sdk_count_on_stack) is None


TENACITY_OF = """
from types import SimpleNamespace

def repeat(send, function):
    return __call__(send, SimpleNamespace(fn=function, attempt_number=3))

def __call__(send, retry_state):
    return send()
"""
BACKOFF_OF = """
def repeat(send, function):
    return retry(send, function, 3)

def retry(send, target, tries):
    return send()
"""


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [("tenacity", TENACITY_OF, "haystack.core"), ("backoff._sync", BACKOFF_OF, "langfuse.client")],
    ids=["tenacity", "backoff"],
)
def test_a_function_of_an_sdk_counts_if_the_sdk_and_not_a_program_has_decorated_it(
    module: str, source: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defined: Any = ModuleType(package)
    exec("class Pipeline:\n    def run(self): ...", defined.__dict__)
    monkeypatch.setitem(sys.modules, package, defined)
    repeat, original = defined_in(module, source)["repeat"], defined.Pipeline.run
    assert repeat(sdk_count_on_stack, defined.Pipeline().run) is None
    assert repeat(sdk_count_on_stack, original) is None
    pipeline: Any = defined.Pipeline()
    bound, pipeline.run = pipeline.run, "decorated"
    assert repeat(sdk_count_on_stack, bound) == 2
    defined.Pipeline.run = functools.wraps(original)(lambda self: None)
    assert repeat(sdk_count_on_stack, original) == 2


def test_a_program_that_calls_completion_with_retries_makes_its_first_call_by_tenacity() -> None:
    names = defined_in("tenacity", TENACITY.replace("PACKAGE", "'litellm.main'"))
    call = "def call(inner, *args): return inner(*args)"
    retries = defined_in("litellm.main", call)["call"]
    wrapper, program = (defined_in(module, call)["call"] for module in ("litellm.utils", "program"))
    assert wrapper(retries, names["__call__"], sdk_count_on_stack) == 2
    assert program(retries, names["__call__"], sdk_count_on_stack) == 1
    assert program(names["__call__"], sdk_count_on_stack) is None


def test_a_call_for_a_token_inside_a_repetition_has_a_count_of_its_own() -> None:
    source = """
def request(send, retries=0, token=None):
    if retries == 0:
        return request(send, retries=1, token=token) if token else send()
    return token(lambda: request(send))
"""
    request = defined_in("acme.core.http_client", source)["request"]
    assert request(sdk_count_on_stack, token=lambda call: call()) == 0


def test_a_function_whose_module_has_no_name_counts_nothing() -> None:
    for name in (None, 7):
        names: dict[str, Any] = {"__name__": name}
        exec("def request(send): return send()", names)
        assert names["request"](sdk_count_on_stack) is None


def test_functions_of_these_names_elsewhere_count_nothing() -> None:
    for source, name in ((GITHUBKIT, "request"), (SPEAKEASY, "retry_with_backoff")):
        assert defined_in("program", source)[name](sdk_count_on_stack) is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shop.core.http_client", "def request(send, retries=3): return send()"),
        (
            "shop.core.http_client",
            "def request(send, retries=3): return request(send, retries - 1) if retries else send()",
        ),
        ("shop.utils.retries", "def retry_with_backoff(send, retries=3): return send()"),
        ("shop.utils.retries", "def retry_with_backoff(send, *, retries=3): return send()"),
    ],
)
def test_an_argument_that_says_how_often_a_program_repeats_is_no_count(module: str, source: str) -> None:
    names = defined_in(module, source)
    call: Any = names.get("request") or names["retry_with_backoff"]
    assert call(sdk_count_on_stack) is None


def test_the_highest_count_of_nested_sdks_counts() -> None:
    inner = defined_in("acme.utils.retries", SPEAKEASY)["retry_with_backoff"]
    outer = defined_in("githubkit.core", GITHUBKIT)["request"]
    assert outer(lambda: inner(sdk_count_on_stack)) == 3
    assert inner(lambda: outer(sdk_count_on_stack)) == 3


def test_no_sdk_on_the_stack_has_no_count() -> None:
    assert sdk_count_on_stack() is None
