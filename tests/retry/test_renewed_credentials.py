"""Credentials that are renewed between two attempts of one call: by an SDK, or by a client's authentication."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Generator
from typing import Any

import httpx
import httpx2
import openai
import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer, play
from tests.retry.outcomes import outcome

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
LOST = httpx.ReadError("lost")
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def repetition(count: int, token: str, **headers: str) -> Any:
    headers = {"x-stainless-retry-count": str(count), "authorization": f"Bearer {token}", **headers}
    return httpx.Request("POST", "http://api.test/jobs", headers=headers, json={})


def counted_tokens() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"token-{next(numbers)}"


SDKS: dict[str, Callable[[str, Any], Any]] = {
    "api_key": lambda url, http: openai.OpenAI(api_key=counted_tokens(), base_url=url, http_client=http),
    "azure": lambda url, http: openai.AzureOpenAI(
        azure_ad_token_provider=counted_tokens(), api_version="1", azure_endpoint=url, http_client=http
    ),
}


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_that_asks_for_a_token_before_each_attempt_executes_once(
    sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.005)
    with HostileServer(["fin", "fin"]) as server, flexmw.wrap_client(openai.DefaultHttpxClient()) as http:
        with SDKS[sdk](server.url, http) as client, pytest.raises(openai.APIConnectionError) as caught:
            client.chat.completions.create(model="m", messages=MESSAGES)
        assert server.executions == 1
    said = flexmw.outcome_of(caught.value)
    assert said is not None
    assert (said.outcome, said.reason) == ("ambiguous", "given_back_before")


def test_a_repetition_of_a_refused_call_is_sent_with_its_new_token() -> None:
    policy = flexmw.Retry(attempts=1)
    assert play(policy, [429], repetition(0, "a")).response.status_code == 429
    assert play(policy, [200], repetition(1, "b")).response.status_code == 200


def test_a_body_that_is_compressed_anew_is_the_same_call() -> None:
    policy = flexmw.Retry()
    first, again = (
        httpx.Request("POST", "http://api.test/jobs", headers=headers, content=gzip.compress(b"{}", mtime=count))
        for count in (0, 1)
        for headers in [{"x-stainless-retry-count": str(count), "content-encoding": "gzip"}]
    )
    assert isinstance(play(policy, [LOST], first).error, httpx.ReadError)
    assert play(policy, [200], again).count(flexmw.Send) == 0


def test_a_presigned_url_that_is_signed_anew_is_the_same_call() -> None:
    policy = flexmw.Retry(attempts=1)
    for count, sent in ((0, 1), (1, 0)):
        url = f"http://api.test/jobs?part=1&X-Amz-Signature={count}&X-Amz-Date={count}"
        headers = {"x-stainless-retry-count": str(count)}
        assert play(policy, [LOST], httpx.Request("POST", url, headers=headers)).count(flexmw.Send) == sent


@pytest.mark.parametrize(("token", "sent"), [("a", 1), ("b", 0)])
def test_a_key_that_went_out_with_other_credentials_makes_a_repetition_no_safer(token: str, sent: int) -> None:
    policy = flexmw.Retry(attempts=1, key_origins=("http://api.test",))
    first = play(policy, [LOST], repetition(0, "a", **{"idempotency-key": "k"}))
    assert outcome(first.error).outcome == "ambiguous"
    for count in (1, 2):
        played = play(policy, [LOST], repetition(count, token, **{"idempotency-key": "k"}))
        assert played.count(flexmw.Send) == sent
        assert outcome(played.error).outcome == "ambiguous"


def test_a_promise_that_repeating_does_no_harm_holds_for_a_new_token_too() -> None:
    policy = flexmw.Retry(attempts=1, idempotent=True)
    play(policy, [LOST], repetition(0, "a", **{"idempotency-key": "k"}))
    assert play(policy, [200], repetition(1, "b", **{"idempotency-key": "k"})).response.status_code == 200


def test_a_lost_call_is_remembered_for_as_long_as_its_sdk_repeats_it() -> None:
    clock = FakeClock()
    policy = flexmw.Retry(clock=clock, attempts=1)
    play(policy, [LOST], repetition(0, "a"))
    for count in range(1, 5):
        clock.advance(100.0)
        assert play(policy, [200], repetition(count, "a")).count(flexmw.Send) == 0


def test_later_calls_do_not_keep_a_lost_call_in_memory() -> None:
    clock = FakeClock()
    policy = flexmw.Retry(clock=clock, attempts=1)
    play(policy, [LOST], repetition(0, "a"))
    for sent in (0, 0, 1, 1):
        clock.advance(60.0)
        assert play(policy, [429], repetition(0, "a")).count(flexmw.Send) == 1
        assert play(policy, [200], repetition(1, "a")).count(flexmw.Send) == sent


class Renewing:
    """Shows a token, and a new one after a 401."""

    def __init__(self, library: Any, tokens: tuple[str, str]) -> None:
        class Auth(library.Auth):  # type: ignore[misc]
            def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
                request.headers["authorization"] = f"Bearer {tokens[0]}"
                response = yield request
                if response.status_code == 401:
                    request.headers["authorization"] = f"Bearer {tokens[1]}"
                    yield request

        self.auth = Auth()


def steps(library: Any, script: list[Any], policy: flexmw.Retry, **options: Any) -> tuple[Any, list[Any]]:
    """The result of a POST whose requests meet the script one after the other, and these requests."""
    requests: list[Any] = []

    def respond(request: Any) -> Any:
        requests.append(request)
        event = script[len(requests) - 1]
        if isinstance(event, int):
            return library.Response(event, headers={"location": "http://other.test/jobs"} if event == 307 else {})
        raise event(f"{event.__name__}", request=request)

    transport = getattr(flexmw, library.__name__).Transport(policy, transport=library.MockTransport(respond))
    with library.Client(transport=transport, follow_redirects=True) as client:
        try:
            return client.post("http://api.test/jobs", json={}, **options), requests
        except library.TransportError as error:
            return error, requests


def policy_of(**options: Any) -> flexmw.Retry:
    return flexmw.Retry(clock=FakeClock(), key_origins=("http://api.test",), **options)


@libraries
@pytest.mark.parametrize("keys", [{"headers": {"idempotency-key": "k"}}, {}], ids=["own key", "auto_key"])
def test_a_lost_attempt_is_not_repeated_with_the_token_that_a_401_asks_for(library: Any, keys: Any) -> None:
    auth = Renewing(library, ("old", "new")).auth
    error, requests = steps(library, [library.ReadError, 401, 200], policy_of(auto_key=True), auth=auth, **keys)
    assert len(requests) == 2
    assert isinstance(error, library.TransportError)
    assert (outcome(error).outcome, outcome(error).reason) == ("ambiguous", "key_not_honoured")


@libraries
def test_a_step_with_the_same_credentials_goes_on_under_the_same_key(library: Any) -> None:
    auth = Renewing(library, ("same", "same")).auth
    response, requests = steps(library, [library.ReadError, 401, 200], policy_of(auto_key=True), auth=auth)
    assert response.status_code == 200
    assert len({request.headers["idempotency-key"] for request in requests}) == 1


@libraries
def test_a_401_after_which_nothing_is_lost_is_repeated_with_the_new_token(library: Any) -> None:
    auth = Renewing(library, ("old", "new")).auth
    response, requests = steps(library, [401, library.ReadError, 200], policy_of(auto_key=True), auth=auth)
    assert (response.status_code, len(requests)) == (200, 3)
    assert requests[1].headers["idempotency-key"] == requests[2].headers["idempotency-key"]


@libraries
def test_a_lost_attempt_is_not_redirected_to_another_origin(library: Any) -> None:
    error, requests = steps(library, [library.ReadError, 307, 200], policy_of(auto_key=True))
    assert len(requests) == 2
    assert outcome(error).outcome == "ambiguous"


@libraries
def test_a_promise_that_repeating_does_no_harm_holds_for_every_step(library: Any) -> None:
    auth = Renewing(library, ("old", "new")).auth
    policy = flexmw.Retry(clock=FakeClock(), idempotent=True)
    response, requests = steps(library, [library.ReadError, 401, library.ReadError, 307, 200], policy, auth=auth)
    assert (response.status_code, len(requests)) == (200, 5)
