"""The count of an SDK's repetitions, as the SDK keeps it on the stack.

Some SDKs repeat a call and send no header with the count. A loop of the SDK then calls the client again, and the number
of the repetition is in a local variable of a function on the stack. :data:`_COUNTERS` names the functions.

Two of these SDKs, typesense and elasticsearch, repeat a call at the next node of a cluster, whose host is another one.

Checked with cohere 7.3 and deepgram-sdk 7.17 (Fern), mistralai 3.7 (Speakeasy), githubkit 0.16, typesense 2.1,
elastic-transport 9.4 (the node class ``httpxasync``), huggingface-hub 2.4, firecrawl-py 4.55, langsmith 0.15,
openai-agents 0.24, prefect 3.9, portkey-ai 2.3 (which sends the count and does not obey ``x-should-retry``), increase
0.552 (Stainless, without the header), zai-sdk 0.2 and volcengine-ark-runtime 5.0 (earlier versions of Stainless),
aiobotocore 3.10, apify-client 3.4, corehttp 1.0b7, fal-client 1.0, inngest 0.5, stripe 16.1, svix 2.9, workos 10.8 and
agno 3.1; by tenacity 9.1 with litellm 1.110, llama-index-llms-openai 0.8, google-genai 3.6, ai21 4.3, haystack-ai 3.4,
langchain-mistralai 1.1, langchain-fireworks 1.7, langchain-cohere 0.6, llama-cloud-services 0.6, gql 4.4 and opik 2.2;
by backoff 2.2 with langfuse 5.0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

__all__ = ["StackCount", "counted_on_stack", "sdk_count_on_stack"]


class _Counter(NamedTuple):
    """A function that knows how often a call was repeated.

    :param module: the end of the name of its module.
    :param read: reads the count from its frame; anything but an ``int`` is no count.
    :param recurses: whether the function repeats a call by calling itself. The innermost frame has the count; an outer
        one may belong to another call, which asks for a token before it is sent.
    :param moves: whether a repetition may go to another host.
    """

    module: str
    read: Callable[[FrameType], Any]
    recurses: bool = False
    moves: bool = False


# Programs have functions of these names too, whose argument `retries` is how often they may repeat a call. Their
# `request(url, retries=3)` was taken for the third repetition, and an equal POST after a lost one was not sent.


def _retries_of_recursion(frame: FrameType) -> Any:
    """The client that Fern generates repeats a call by calling itself, with the count in an argument, from 0."""
    first, outer = frame, frame.f_back
    while outer is not None:
        if outer.f_code is frame.f_code:
            first = outer
        outer = outer.f_back
    return frame.f_locals.get("retries") if first.f_locals.get("retries") == 0 else None


def _retries_of_loop(frame: FrameType) -> Any:
    code = frame.f_code
    is_argument = "retries" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return None if is_argument else frame.f_locals.get("retries")


def _retries_of_stainless(frame: FrameType) -> Any:
    """Stainless makes clients that repeat a call in a loop. Some leave out the header with the count; the others are
    known by it."""
    return None if _sends_count(frame) else frame.f_locals.get("retries_taken")


def _depth_of_recursion(frame: FrameType) -> Any:
    """Earlier versions of Stainless made clients that repeat a call by calling themselves, and count downwards."""
    depth, outer = 0, frame.f_back
    while outer is not None:
        depth += outer.f_code is frame.f_code
        outer = outer.f_back
    return None if "remaining_retries" not in frame.f_code.co_varnames or _sends_count(frame) else depth


def _sends_count(frame: FrameType) -> bool:
    headers: Any = getattr(frame.f_locals.get("request"), "headers", ())
    return "x-stainless-retry-count" in headers


def _variable(name: str, *, first: int = 0, unset: int | None = None) -> Callable[[FrameType], Any]:
    """Return a function that reads a variable, which is ``first`` in the first call. The function returns ``unset``
    before the variable is set."""

    def read(frame: FrameType) -> Any:
        value = frame.f_locals.get(name)
        return value - first if type(value) is int else unset

    return read


def _history_of_corehttp(frame: FrameType) -> Any:
    settings = frame.f_locals.get("retry_settings")
    history = settings.get("history") if isinstance(settings, dict) else None
    return len(history) if isinstance(history, list) else None


def _attempted_retries(frame: FrameType) -> Any:
    """litellm's ``Router`` has its loop outside of Python, and hands the count on."""
    arguments = frame.f_locals.get("kwargs")
    metadata = arguments.get("metadata") if isinstance(arguments, dict) else None
    return metadata.get("attempted_retries", 0) if isinstance(metadata, dict) else 0


_FIRST_OF_TENACITY: Final[Mapping[str, int]] = {
    "llama_index": 1, "google": 1, "litellm": 0, "ai21": 1, "haystack": 1, "langchain_mistralai": 1,
    "langchain_fireworks": 1, "langchain_cohere": 1, "llama_cloud_services": 1, "gql": 1, "opik": 1,
}  # fmt: skip
"""Packages that repeat calls by tenacity, and the number of tenacity's attempt that is the first call. litellm makes
the first call without it. A program's own use of tenacity does not count: the program may look for the result of a lost
call before it calls again."""

_CALLERS_OF_TENACITY: Final = frozenset({"google", "litellm", "gql"})
"""Packages that call tenacity themselves, by which their use of it is told from that of a program: tenacity around
``litellm.completion`` made each first call a repetition. The others decorate functions of their own by tenacity."""

_DECORATED_BY_BACKOFF: Final = frozenset({"langfuse"})
"""Packages that decorate functions of their own by the package ``backoff``."""


def _tries_of_backoff(frame: FrameType) -> Any:
    target = frame.f_locals.get("target")
    is_decorated = _package_that_has(target) in _DECORATED_BY_BACKOFF and not _is_undecorated(target)
    return frame.f_locals.get("tries", 1) - 1 if is_decorated else None


def _package_that_has(function: object) -> str:
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0]


def _is_undecorated(function: Any) -> bool:
    """Return whether the name of a function, in its module and in its object, refers to the function itself. A
    decorator of the package would have replaced it, so a program repeats the function: the methods of haystack that a
    program gave to tenacity were taken for haystack's own repetitions."""
    own: Any = getattr(getattr(function, "__self__", None), "__dict__", ())
    if getattr(function, "__name__", None) in own:  # opik decorates the methods of each object
        return False
    function = getattr(function, "__func__", function)
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return getattr(found, "__func__", found) is function


def _attempt_number(frame: FrameType) -> Any:
    state = frame.f_locals.get("retry_state")
    function = getattr(state, "fn", None)
    package = _package_that_has(function)
    first, caller = _FIRST_OF_TENACITY.get(package), frame.f_back
    while caller is not None and _package_of(caller) == "tenacity":  # the function that its decorator has made
        caller = caller.f_back
    is_of_program = _package_of(caller) != package if package in _CALLERS_OF_TENACITY else _is_undecorated(function)
    if first is None or is_of_program:
        return None
    if package == "litellm" and caller is not None and _package_of(caller.f_back) != package:
        first = 1  # a program has called `completion_with_retries`, which makes the first call by tenacity
    return getattr(state, "attempt_number", first) - first


def _package_of(frame: FrameType | None) -> str:
    return "" if frame is None else _module_of(frame).partition(".")[0]


def _module_of(frame: FrameType) -> str:
    """The name of the module of a function; empty where ``exec`` was given globals without one."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _counters(*rows: tuple[str, _Counter]) -> Mapping[str, tuple[_Counter, ...]]:
    """Return the counters by the name of each function.

    :param rows: the names of functions of one module, and their counter.
    """
    by_name: dict[str, tuple[_Counter, ...]] = {}
    for names, counter in rows:
        for name in names.split():
            by_name[name] = (*by_name.get(name, ()), counter)
    return by_name


_AGNO: Final = (
    "_run _run_stream _arun _arun_stream _continue_run _continue_run_stream _acontinue_run _acontinue_run_stream"
)
_SPEAKEASY: Final = (
    "retry_with_backoff retry_with_backoff_async "
    "retry_with_attempt_count_backoff retry_with_attempt_count_backoff_async"
)
_TYPESENSE: Final = "_execute_request _execute_stream_request"

_COUNTERS: Final = _counters(
    ("request", _Counter(".core.http_client", _retries_of_recursion, recurses=True)),  # Fern
    (_SPEAKEASY, _Counter(".utils.retries", _retries_of_loop)),
    ("request", _Counter("._base_client", _retries_of_stainless)),  # Stainless
    ("_request", _Counter("._base_client", _depth_of_recursion, recurses=True)),
    ("_request", _Counter("zai.core._http_client", _depth_of_recursion, recurses=True)),
    (
        "_invoke_with_retry _ainvoke_with_retry _invoke_stream_with_retry _ainvoke_stream_with_retry",
        _Counter("agno.models.base", _variable("attempt")),
    ),
    (_AGNO, _Counter("agno.agent._run", _variable("attempt"))),
    (_AGNO, _Counter("agno.team._run", _variable("attempt"))),
    ("_send_result", _Counter("anthropic.lib.tools._beta_session_runner", _variable("attempt", first=1))),
    ("_send_request", _Counter("aiobotocore.endpoint", _variable("attempts", first=1))),
    ("_retry_with_exp_backoff", _Counter("apify_client.http_clients._base", _variable("attempt", first=1))),
    ("send", _Counter("corehttp.runtime.policies._retry", _history_of_corehttp)),
    ("send", _Counter("corehttp.runtime.policies._retry_async", _history_of_corehttp)),
    ("perform_request", _Counter("elastic_transport._async_transport", _variable("attempt"), moves=True)),
    ("_maybe_retry_request _async_maybe_retry_request", _Counter("fal_client.client", _variable("attempt", first=1))),
    ("post post_multipart patch", _Counter("firecrawl.v2.utils.http_client_async", _variable("attempt"))),
    ("request arequest", _Counter("githubkit.core", _variable("retry_count"))),
    ("_http_backoff_base", _Counter("huggingface_hub.utils._http", _variable("nb_tries", first=1))),
    ("send send_sync", _Counter("inngest._internal.client_lib.client", _variable("attempt"))),
    ("_arequest_with_retries", _Counter("langsmith.async_client", _variable("attempt"))),
    ("wrapper wrapper_async", _Counter("litellm.utils", _attempted_retries)),
    (
        "get_response_with_retry stream_response_with_retry",
        _Counter("agents.run_internal.model_retry", _variable("request_attempt", first=1)),
    ),
    ("request", _Counter("portkey_ai._vendor.openai._base_client", _variable("retries_taken"))),
    ("_request", _Counter("portkey_ai.api_resources.base_client", _variable("retry_count"), recurses=True)),
    ("_send_with_retry", _Counter("prefect.client.base", _variable("try_count"))),
    (
        "_request_with_retries_internal _request_with_retries_internal_async",
        _Counter("stripe._http_client", _variable("num_retries")),
    ),
    ("_request_sync _request_asyncio", _Counter("svix.api.common", _variable("retry_count", first=-1, unset=0))),
    (_TYPESENSE, _Counter("typesense.sync.api_call", _variable("num_retries"), recurses=True, moves=True)),
    (_TYPESENSE, _Counter("typesense.async_.api_call", _variable("num_retries"), recurses=True, moves=True)),
    ("request", _Counter("workos._base_client", _variable("attempt"))),
    ("retry", _Counter("backoff._sync", _tries_of_backoff)),
    ("retry", _Counter("backoff._async", _tries_of_backoff)),
    ("__call__", _Counter("tenacity", _attempt_number)),
    ("__call__", _Counter("tenacity.asyncio", _attempt_number)),
)
"""By the name of the function."""


def sdk_count_on_stack() -> int | None:
    """How often an SDK has repeated its current call; ``None`` where no SDK on the stack counts its repetitions there.

    A function that repeats a call by calling itself has the count in its innermost frame, and one SDK may call another.
    The result is the highest count.
    """
    found = counted_on_stack()
    return None if found is None else found.repetitions


class StackCount(NamedTuple):
    """How often an SDK has repeated its current call.

    :param moves: whether the SDK may repeat the call at another host.
    """

    repetitions: int
    moves: bool


def counted_on_stack() -> StackCount | None:
    """As :func:`sdk_count_on_stack`, and whether a repetition may go to another host."""
    found: list[StackCount] = []
    recursions: set[CodeType] = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        for counter in _COUNTERS.get(frame.f_code.co_name, ()):
            if _module_of(frame).endswith(counter.module) and frame.f_code not in recursions:
                if counter.recurses:
                    recursions.add(frame.f_code)
                count = counter.read(frame)
                if type(count) is int:
                    found.append(StackCount(count, counter.moves))
        frame = frame.f_back
    return max(found, default=None)
