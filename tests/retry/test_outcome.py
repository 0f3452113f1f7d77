"""``outcome_of``: what became of a call, whatever object an SDK hands out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from mistralai.client import Mistral

import flexmw
from flexmw.retry.outcome import set_outcome
from flexmw.testing import HostileServer

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def client(library: Any) -> Any:
    return flexmw.wrap_client(library.Client(timeout=library.Timeout(20.0, read=1.0), trust_env=False))


def call_openai(server: HostileServer) -> Any:
    with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=client(httpx2), max_retries=0) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_anthropic(server: HostileServer) -> Any:
    with anthropic.Anthropic(api_key="k", base_url=server.url, http_client=client(httpx2), max_retries=0) as sdk:
        return sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES)


def call_groq(server: HostileServer) -> Any:
    with groq.Groq(api_key="k", base_url=server.url, http_client=client(httpx), max_retries=0) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_mistral(server: HostileServer) -> Any:
    with client(httpx) as http, Mistral(api_key="k", server_url=server.url, client=http) as sdk:
        return sdk.chat.complete(model="m", messages=MESSAGES)


def call_httpx(server: HostileServer) -> Any:
    with client(httpx) as http:
        return http.post(server.url, json={}).raise_for_status()


sdks = pytest.mark.parametrize("call", [call_openai, call_anthropic, call_groq, call_mistral, call_httpx])


@sdks
@pytest.mark.parametrize(("fault", "outcome"), [("rst", "ambiguous"), ("500", "ambiguous"), ("404", "answered")])
def test_an_error_of_an_sdk_says_how_the_call_ended(
    call: Callable[[HostileServer], Any], fault: str, outcome: str
) -> None:
    with HostileServer([fault]) as server, pytest.raises(Exception) as caught:  # noqa: PT011  each SDK's own class
        call(server)
    found = flexmw.outcome_of(caught.value)
    assert found is not None
    assert (found.outcome, found.attempts) == (outcome, 1)


def test_a_response_and_a_raw_response_of_an_sdk_say_it_too() -> None:
    with HostileServer(["503:ms=0.01", "ok", "ok"]) as server, client(httpx2) as http:
        found = flexmw.outcome_of(http.get(server.url))
        assert found is not None
        assert (found.outcome, found.attempts) == ("answered", 2)
        sdk = openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=0)
        raw = sdk.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert flexmw.outcome_of(raw) == flexmw.Outcome("answered", 1)


def test_a_cause_and_a_group_are_followed_and_a_context_is_not() -> None:
    lost, wrapped = ConnectionError(), RuntimeError("wrapped")
    lost.flexmw = outcome = flexmw.Outcome("ambiguous", 1)  # type: ignore[attr-defined]
    wrapped.__cause__ = lost
    assert flexmw.outcome_of(wrapped) is outcome
    assert flexmw.outcome_of(ExceptionGroup("calls", [ValueError(), wrapped])) is outcome
    other = RuntimeError("of another call")
    other.__context__ = lost
    assert flexmw.outcome_of(other) is None


def test_any_other_object_has_no_outcome() -> None:
    class Hostile(Exception):
        flexmw = "mine"

        @property
        def response(self) -> Any:
            raise LookupError

    endless = Hostile()
    endless.__cause__ = endless
    for value in (None, 7, "text", endless, httpx.Response(200), {"response": 1}):
        assert flexmw.outcome_of(value) is None


def test_a_response_inside_the_response_of_an_sdk_has_the_outcome() -> None:
    with HostileServer("500") as server, client(httpx) as http:
        inner = http.post(server.url, json={})
    error = RuntimeError("of corehttp")
    error.response = SimpleNamespace(_internal_response=inner)  # type: ignore[attr-defined]
    assert flexmw.outcome_of(error) is inner.extensions["flexmw"]


def test_the_ambiguous_outcome_of_a_group_counts_first() -> None:
    refused, lost = flexmw.Outcome("refused", 1), flexmw.Outcome("ambiguous", 1)
    errors = [httpx.ReadError("error") for _ in range(31)]
    for error, known in zip(errors, [refused] * 30 + [lost], strict=True):
        set_outcome(error, known)
    assert flexmw.outcome_of(ExceptionGroup("calls", errors)) is lost
    assert flexmw.outcome_of(ExceptionGroup("calls", errors[:2])) is refused


class SDK:
    """A package that turns responses into errors of its own, as its functions would be if it were installed."""

    SOURCE = """
class SDKError(Exception):
    pass

def by_status(http, url):
    r = http.post(url, json={})
    if r.status_code >= 400:
        raise SDKError(r.text)

def by_status_beside_an_earlier_response(http, url):
    first = http.post(url, json={})
    r = http.post(url, json={})
    raise SDKError(r.text)

def from_none(http, url):
    try:
        http.post(url, json={}).raise_for_status()
    except Exception as error:
        raise SDKError(str(error)) from None

def after_a_raise_of_its_own(http, url):
    try:
        http.post(url, json={})
    except Exception as error:
        failed(error)

def failed(error):
    raise SDKError()

def mapped_twice(http, url):
    caught = mapped = None
    try:
        http.post(url, json={})
    except Exception as error:
        caught, mapped = error, SDKError("mapped")
    raise SDKError("at last")

def of_a_status_alone(http, url):
    refused(http.post(url, json={}).status_code)

def refused(status):
    raise SDKError(status)

def by_a_function_that_gets_the_status(http, url):
    response = http.post(url, json={})
    checked(response.status_code)

def checked(status):
    refused(status)

def of_a_check_before_the_next_call(http, url):
    first = http.get(url)
    checked(0)

def beside_an_earlier_response(http, url):
    first, second = http.get(url), http.post(url, json={})
    checked(second.status_code)

def lost_after_a_refused_one(http, url):
    response = http.post(url, json={})
    try:
        http.post(url, json={})
    except Exception:
        raise SDKError() from None
"""

    def __init__(self, module: str = "acme_sdk.client") -> None:
        self.names: dict[str, Any] = {"__name__": module}
        exec(self.SOURCE, self.names)
        self.error: type[Exception] = self.names["SDKError"]

    def fail(self, function: str, fault: str) -> Exception:
        with HostileServer(fault) as server, client(httpx) as http, pytest.raises(self.error) as caught:
            self.names[function](http, server.url)
        return caught.value


@pytest.mark.parametrize("fault", ["500", "rst"])
def test_what_an_sdk_drops_is_found_where_the_sdk_raised(fault: str) -> None:
    lost = ("from_none", "after_a_raise_of_its_own", "mapped_twice")
    by_response = ("by_status", "from_none", "by_a_function_that_gets_the_status")
    for function in by_response if fault == "500" else lost:
        known = flexmw.outcome_of(SDK().fail(function, fault))
        assert known is not None, function
        assert (known.outcome, known.attempts, known.reason) == ("ambiguous", 1, "unsafe_method")


@pytest.mark.parametrize(
    ("core", "is_found"), [("kiota_http.adapter", True), ("aiobotocore.x", True), ("program", False)]
)
def test_a_package_that_sends_requests_for_an_sdk_raises_the_errors_of_the_sdk(core: str, is_found: bool) -> None:
    sdk, names = SDK(), {"__name__": core}
    exec(SDK.SOURCE, names)
    names["SDKError"] = sdk.error  # type: ignore[assignment]
    sdk.names["by_status"] = names["by_status"]
    known = flexmw.outcome_of(sdk.fail("by_status", "500"))
    assert (known is not None and known.outcome == "ambiguous") is is_found


def test_a_lost_call_counts_before_a_refused_one_that_the_sdk_still_holds() -> None:
    outcomes: Any = iter([httpx.Response(429), httpx.ReadError("lost")])

    def send(request: Any) -> httpx.Response:
        if isinstance(result := next(outcomes), Exception):
            raise result
        return result  # type: ignore[no-any-return]

    sdk = SDK()
    http = httpx.Client(transport=flexmw.httpx.Transport(flexmw.Retry(attempts=1), transport=httpx.MockTransport(send)))
    with http, pytest.raises(sdk.error) as caught:
        sdk.names["lost_after_a_refused_one"](http, "http://a.test")
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert known.outcome == "ambiguous"


def test_of_two_responses_none_is_taken_for_that_of_the_error() -> None:
    for function in ("by_status_beside_an_earlier_response", "beside_an_earlier_response"):
        assert flexmw.outcome_of(SDK().fail(function, "500")) is None, function


def test_the_good_response_of_an_earlier_call_is_not_that_of_an_error() -> None:
    assert flexmw.outcome_of(SDK().fail("of_a_check_before_the_next_call", "ok")) is None


def test_an_sdk_that_keeps_the_status_alone_leaves_nothing_to_find() -> None:
    assert flexmw.outcome_of(SDK().fail("of_a_status_alone", "500")) is None


def test_an_error_without_its_traceback_tells_nothing() -> None:
    error = SDK().fail("by_status", "500")
    assert flexmw.outcome_of(error.with_traceback(None)) is None


def test_a_program_that_holds_a_response_may_fail_of_something_else() -> None:
    with HostileServer("500") as server, client(httpx) as http:
        response = http.post(server.url, json={})
        with pytest.raises(ValueError, match="500") as caught:
            raise ValueError(response.status_code)
    assert flexmw.outcome_of(caught.value) is None


def test_an_error_raised_while_another_call_was_handled_has_not_its_outcome() -> None:
    with HostileServer("rst") as server, client(httpx) as http:
        try:
            http.post(server.url, json={})
        except httpx.HTTPError:
            with pytest.raises(Exception) as caught:  # noqa: PT011  the class is made anew
                SDK().names["refused"](500)
            assert flexmw.outcome_of(caught.value) is None
