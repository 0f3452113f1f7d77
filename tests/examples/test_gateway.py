"""What the gateway does when all goes well, what it bills, and how often the backend works."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import flexmw
from examples.gateway.jobs import KEPT
from examples.gateway.serve import Backend, Running, backend, gateway
from examples.gateway.wire import lossy
from tests.examples.conftest import TLS, Caller
from tests.waiting import eventually

CHAT = "/v1/chat/completions"
VIDEOS = "/v1/videos/generations"
ASK: dict[str, Any] = {"model": "alice-3gram", "messages": [{"role": "user", "content": "Who stole the tarts?"}]}


@pytest.fixture
def sync_caller(running: Running, account: tuple[str, str]) -> Caller:
    return Caller("sync", running.url, account[0])


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_chat_is_the_same_in_one_piece_and_in_many(caller: Caller) -> None:
    def whole(sdk: Any) -> Any:
        return sdk.chat.completions.create(**ASK, seed=5)

    def streamed(sdk: openai.OpenAI) -> list[Any]:
        return list(sdk.chat.completions.create(**ASK, seed=5, stream=True))

    async def streamed_async(sdk: openai.AsyncOpenAI) -> list[Any]:
        return [event async for event in await sdk.chat.completions.create(**ASK, seed=5, stream=True)]

    events = caller(streamed if caller.colour == "sync" else streamed_async)
    answer = caller(whole)
    assert "".join(event.choices[0].delta.content or "" for event in events) == answer.choices[0].message.content
    assert events[-1].choices[0].finish_reason == answer.choices[0].finish_reason
    assert all(event.usage is None for event in events)


def test_the_usage_of_a_stream_is_shown_to_whoever_asks(sync_caller: Caller) -> None:
    def last(sdk: openai.OpenAI) -> Any:
        *_, event = sdk.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        return event

    event = sync_caller(last)
    assert event.choices == []
    assert event.usage.total_tokens > 5


def test_a_response_is_capped_unless_it_is_streamed(sync_caller: Caller) -> None:
    long = {**ASK, "max_tokens": 3_000, "extra_body": {"min_tokens": 3_000}}
    whole = sync_caller(lambda sdk: sdk.chat.completions.create(**long))
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (2_048, "length")
    events = sync_caller(lambda sdk: list(sdk.chat.completions.create(**long, stream=True)))
    assert sum(bool(event.choices[0].delta.content) for event in events) == 3_000


def test_models_are_listed_with_window_and_price(sync_caller: Caller) -> None:
    listed = {model.id: model for model in sync_caller(lambda sdk: sdk.models.list().data)}
    assert len(listed) == 7
    model = sync_caller(lambda sdk: sdk.models.retrieve("alice-3gram"))
    assert model == listed["alice-3gram"]
    assert model.context_window == 8_192
    assert model.pricing == {"input": 3, "output": 9, "unit": "USD per million tokens"}


def test_every_other_endpoint_does_real_work(sync_caller: Caller, work: Backend) -> None:
    def all_of_them(sdk: openai.OpenAI) -> Any:
        text = sdk.completions.create(model="alice-2gram", prompt="the Queen", max_tokens=5).choices[0].text
        vector = sdk.embeddings.create(model="alice-embed", input="the Queen", dimensions=16).data[0].embedding
        sound = sdk.audio.speech.create(
            model="alice-speech", input="Off with her head!", voice="alto", response_format="wav"
        ).read()
        heard = sdk.audio.transcriptions.create(model="alice-transcribe", file=("a.wav", io.BytesIO(sound))).text
        picture = sdk.images.generate(model="alice-image", prompt="the Queen", size="256x256").data
        return text, vector, heard, picture

    text, vector, heard, (picture,) = sync_caller(all_of_them)
    assert text
    assert len(vector) == 16
    assert heard == "Off with her head!"
    assert base64.b64decode(picture.b64_json).startswith(b"\x89PNG")
    assert set(work.work().values()) == {1}


# --- bills -----------------------------------------------------------------------------------------------------------


def test_each_call_is_billed_by_the_tokens_that_the_backend_counted(
    sync_caller: Caller, running: Running, account: tuple[str, str]
) -> None:
    usage = sync_caller(lambda sdk: sdk.chat.completions.create(**ASK).usage)
    vectors = sync_caller(lambda sdk: sdk.embeddings.create(model="alice-embed", input=["a b c", "d"]).usage)
    spoken = "Off with her head!"
    sync_caller(
        lambda sdk: sdk.audio.speech.create(model="alice-speech", input=spoken, voice="alto", response_format="wav")
    )
    cost = 3 * usage.prompt_tokens + 9 * usage.completion_tokens + vectors.prompt_tokens + 10 * 5
    seen = running.admin.account(account[1])
    assert (seen["spent"], seen["balance"], seen["calls"]) == (cost, 1_000_000 - cost, 3)
    assert seen["tokens"] == usage.total_tokens + 4 + 5


def test_what_is_refused_costs_nothing(sync_caller: Caller, running: Running, account: tuple[str, str]) -> None:
    for change in ({"model": "foo"}, {"n": 2}, {"extra_headers": {"x-backend-fault": "500"}}):
        sync_caller.error(lambda sdk, change=change: sdk.chat.completions.create(**{**ASK, **change}))
    seen = running.admin.account(account[1])
    assert (seen["spent"], seen["calls"]) == (0, 0)


def test_a_stream_is_billed_whole_when_the_caller_hangs_up(
    sync_caller: Caller, running: Running, account: tuple[str, str]
) -> None:
    def first_word(sdk: openai.OpenAI) -> str:
        words = {"seed": 5, "max_tokens": 2_000, "extra_body": {"min_tokens": 2_000}}
        with sdk.chat.completions.create(**ASK, **words, stream=True) as stream:
            return next(event.choices[0].delta.content for event in stream if event.choices[0].delta.content)

    assert sync_caller(first_word)
    eventually(lambda: running.admin.account(account[1])["calls"] == 1)
    seen = running.admin.account(account[1])
    assert seen["tokens"] == 2_000 + 5
    assert seen["spent"] == 9 * 2_000 + 3 * 5


def test_a_stream_that_breaks_is_an_error_and_is_billed_as_far_as_it_came(
    sync_caller: Caller, running: Running, account: tuple[str, str], work: Backend
) -> None:
    def read(sdk: openai.OpenAI) -> None:
        headers = {"x-backend-fault": "drop-mid-stream"}
        list(sdk.chat.completions.create(**ASK, stream=True, extra_headers=headers))

    with pytest.raises(openai.APIError, match="broke off") as caught:
        sync_caller(read)
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert (caught.value.type, caught.value.code) == ("server_error", "internal_error")
    eventually(lambda: running.admin.account(account[1])["calls"] == 1)
    assert running.admin.account(account[1])["spent"] == 3 * 5 + 9 * 2  # the first of the three pieces says no word
    assert work.work() == {CHAT: 1}


# --- one POST, one execution -----------------------------------------------------------------------------------------


def test_an_sdk_whose_responses_are_lost_gets_the_first_ones(
    running: Running, account: tuple[str, str], colour: str, work: Backend
) -> None:
    with lossy(running.url, lose=2) as url:
        answer = Caller(colour, url, account[0])(lambda sdk: sdk.chat.completions.create(**ASK), max_retries=2)
    assert answer.choices[0].message.content
    assert work.work() == {CHAT: 1}
    assert running.admin.account(account[1])["calls"] == 1


def test_two_equal_calls_are_two_executions(
    sync_caller: Caller, running: Running, account: tuple[str, str], work: Backend
) -> None:
    for _ in range(2):
        sync_caller(lambda sdk: sdk.chat.completions.create(**ASK))
    assert work.work() == {CHAT: 2}
    assert running.admin.account(account[1])["calls"] == 2


def test_a_key_of_the_callers_own_is_honoured(sync_caller: Caller, work: Backend) -> None:
    def twice(sdk: openai.OpenAI) -> list[str]:
        headers = {"Idempotency-Key": "3b8d-tarts"}
        answers = (sdk.chat.completions.create(**ASK, extra_headers=headers) for _ in range(2))
        return [answer.id for answer in answers]

    first, second = sync_caller(twice)
    assert first == second
    assert work.work() == {CHAT: 1}


def test_a_wrapped_sdk_does_not_repeat_what_may_have_been_done(work: Backend) -> None:
    http_client = flexmw.wrap_client(openai.DefaultHttpxClient(verify=TLS))
    sdk = openai.OpenAI(base_url=f"{work.url}/v1", api_key="unused", http_client=http_client)
    with sdk, pytest.raises(openai.APIConnectionError):
        sdk.chat.completions.create(**ASK, extra_headers={"x-backend-fault": "lost"})
    assert work.work() == {CHAT: 1}


# --- video jobs ------------------------------------------------------------------------------------------------------


def film(sdk: openai.OpenAI) -> dict[str, Any]:
    """Order a video and wait for it."""
    job: Any = sdk.post("/videos/generations", cast_to=object, body={"model": "alice-video", "prompt": "a cat"})
    assert job["status"] == "queued"

    def completed() -> dict[str, Any] | None:
        seen: Any = sdk.get(f"/videos/generations/{job['id']}", cast_to=object)
        return dict(seen) if seen["status"] == "completed" else None

    return dict(eventually(completed, pause=0.05))


def look_at(job: str) -> Callable[[Any], Any]:
    return lambda sdk: sdk.get(f"/videos/generations/{job}", cast_to=object)


def test_a_video_is_kept_for_a_day_after_its_completion(
    sync_caller: Caller, running: Running, account: tuple[str, str]
) -> None:
    job = sync_caller(film)
    assert base64.b64decode(job["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert job["expires_at"] - job["completed_at"] == KEPT
    assert running.admin.account(account[1])["spent"] == 5 * 2 + 80 * 64 * 8
    running.admin.move_clock(KEPT - 600)
    assert sync_caller(look_at(job["id"])) == job
    running.admin.move_clock(601)
    error = sync_caller.error(look_at(job["id"]))
    assert (error.status_code, error.code) == (404, "job_not_found")


def test_a_video_is_nobody_elses(sync_caller: Caller, running: Running) -> None:
    job = sync_caller(film)
    stranger = Caller("sync", running.url, running.admin.create_key()[0])
    assert stranger.error(look_at(job["id"])).code == "job_not_found"


# --- the backend, and other upstreams --------------------------------------------------------------------------------


def test_a_backend_that_is_gone_is_a_subsystem_that_is_offline() -> None:
    with ExitStack() as stack:
        models = stack.enter_context(backend())
        with gateway(models.url) as running:
            key, account = running.admin.create_key()
            stack.close()
            error = Caller("sync", running.url, key).error(lambda sdk: sdk.chat.completions.create(**ASK))
            assert (error.status_code, error.code) == (503, "service_unavailable")
            assert error.response.headers["retry-after"] == "1"
            assert running.admin.account(account)["calls"] == 0


def test_any_openai_server_can_be_the_upstream(running: Running, account: tuple[str, str], work: Backend) -> None:
    with gateway(running.url, key=account[0]) as outer:
        caller = Caller("sync", outer.url, outer.admin.create_key()[0])
        assert caller(lambda sdk: sdk.chat.completions.create(**ASK)).choices
        events = caller(lambda sdk: list(sdk.chat.completions.create(**ASK, stream=True)))
        assert events[-1].choices[0].finish_reason
        error = caller.error(lambda sdk: sdk.chat.completions.create(**ASK, temperature=9))
        assert (error.status_code, error.param) == (400, "temperature")
    assert work.work() == {CHAT: 2}


def test_an_endpoint_that_the_upstream_lacks_is_said_to_be_missing(work: Backend, serve: Any) -> None:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def models(request: object) -> JSONResponse:
        return JSONResponse({"data": [{"id": "tiny", "max_model_len": 8}]})

    with gateway(serve(Starlette(routes=[Route("/v1/models", models)])).url) as running:
        caller = Caller("sync", running.url, running.admin.create_key()[0])
        error = caller.error(lambda sdk: sdk.embeddings.create(model="tiny", input="the Queen"))
        assert error.status_code == 503
        assert "/v1/embeddings is not served" in str(error)
        error = caller.error(lambda sdk: sdk.embeddings.create(model="tiny", input="a b c d e f g h i"))
        assert (error.code, error.param) == ("context_length_exceeded", "input")


# --- state -----------------------------------------------------------------------------------------------------------


def test_state_in_sqlite_survives_a_restart(work: Backend, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/gateway.db"
    headers = {"Idempotency-Key": "one-order"}

    def order(sdk: openai.OpenAI) -> str:
        return sdk.chat.completions.create(**ASK, extra_headers=headers).id

    with gateway(work.url, storage=storage) as before:
        key, account = before.admin.create_key()
        caller = Caller("sync", before.url, key)
        first, job, seen = caller(order), caller(film), before.admin.account(account)
    with gateway(work.url, storage=storage) as after:
        caller = Caller("sync", after.url, key)
        assert caller(order) == first
        assert caller(look_at(job["id"])) == job
        assert after.admin.account(account) == seen
    assert work.work()[CHAT] == 1


def test_two_gateways_share_their_state_in_redis(work: Backend, redis_url: str, http: httpx2.Client) -> None:
    with gateway(work.url, storage=redis_url) as one, gateway(work.url, storage=redis_url) as other:
        key, account = one.admin.create_key(tier="free")
        callers = [Caller("sync", each.url, key) for each in (one, other)]
        job = callers[0](film)
        assert callers[1](look_at(job["id"])) == job
        headers = {"authorization": f"Bearer {key}"}
        answers = [http.get(f"{(one, other)[turn % 2].url}/v1/models", headers=headers) for turn in range(12)]
        allowed = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers if answer.is_success]
        assert len(set(allowed)) == len(allowed) < 10
        assert [caller.error(lambda sdk: sdk.models.list()).status_code for caller in callers] == [429, 429]
        other.admin.revoke(account)
        assert one.admin.account(account)["revoked"]


# --- the administrator -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Basic x"])
def test_the_switches_need_the_token(running: Running, token: str, http: httpx2.Client) -> None:
    answer = http.post(f"{running.url}/admin/keys", json={}, headers={"authorization": token} if token else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/admin/keys", {"tier": "gold"}, 400, "free"),
        ("POST", "/admin/keys", {"credit": -1}, 400, "credit"),
        ("GET", "/admin/accounts/acct-none", None, 404, "no such account"),
        ("POST", "/admin/accounts/acct-none/credit", {"amount": 5}, 404, "no such account"),
        ("PUT", "/admin/offline/teapot", None, 400, "playground"),
        ("POST", "/admin/clock", {"seconds": -5}, 400, "seconds"),
    ],
)
def test_a_switch_that_cannot_be_thrown_says_why(
    running: Running, method: str, path: str, body: object, status: int, words: str
) -> None:
    answer = running.admin.client.request(method, path, json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


# --- telemetry -------------------------------------------------------------------------------------------------------


def test_the_server_span_says_what_the_response_said(work: Backend, global_telemetry: Any) -> None:
    with gateway(work.url) as running:
        key, _ = running.admin.create_key(tier="free")
        caller = Caller("sync", running.url, key)
        error = caller.error(lambda sdk: sdk.chat.completions.create(**{**ASK, "model": "foo"}))
        for _ in range(9):
            caller(lambda sdk: sdk.models.list())
        limited = caller.error(lambda sdk: sdk.models.list())
    served = (span for span in global_telemetry.spans if span.kind.name == "SERVER")
    spans = [span for span in served if span.attributes["url.path"].startswith("/v1/")]
    spans.sort(key=lambda span: span.start_time)
    said = [(span.attributes["http.response.status_code"], span.attributes.get("flexmw.error.code")) for span in spans]
    assert said == [(400, error.code), *[(200, None)] * 9, (429, limited.code)]
    assert spans[0].name == f"POST {CHAT}"
    assert key not in str([dict(span.attributes) for span in spans])
