"""The probes without a network: each verdict is a function of the responses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmw.conformance.probes import GROUPS, PROBES
from flexmw.conformance.probes.errors import WRONG_KEY
from flexmw.conformance.values import COSTS, Probe, Request, Response
from tests.conformance.played_probes import error, judge
from tests.conformance.test_judges import CHUNK, DONE, HEADERS

GENERATION = "0f8fad5bd9cb469fa165"
RESPONSES = st.builds(
    Response,
    status=st.sampled_from([100, 200, 204, 301, 400, 401, 404, 405, 409, 410, 413, 422, 429, 500, 501, 503]),
    headers=HEADERS,
    body=st.binary(max_size=80) | st.just(error(400).body),
)


def test_the_table_is_whole() -> None:
    assert len({probe.id for probe in PROBES}) == len(PROBES)
    assert {probe.cost for probe in PROBES} == set(COSTS)
    assert GROUPS == ("errors", "ids", "methods", "bodies", "cors", "streams", "idempotency", "resumable", "limits")
    for probe in PROBES:
        assert probe.asks
        assert probe.source


@settings(max_examples=20)
@given(responses=st.lists(RESPONSES, min_size=1, max_size=4), has_key=st.booleans())
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.id)
def test_each_probe_ends_in_a_verdict_with_its_reasons(probe: Probe, responses: list[Response], has_key: bool) -> None:
    turn = cycle(responses)
    row = judge(probe, lambda request: next(turn), has_key=has_key)
    assert row.state in ("passed", "failed", "skipped")
    assert bool(row.notes) == (row.state != "passed")


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe.cost != "paid"], ids=lambda probe: probe.id)
def test_no_free_probe_sends_a_valid_call(probe: Probe) -> None:
    sent: list[Request] = []

    def respond(request: Request) -> Response:
        sent.append(request)
        return error(400, access_control_allow_origin="*", idempotency_key_ttl="60")

    for route in ({}, {"is_llm": False, "path": "/orders", "read_path": None}):
        judge(probe, respond, body={"item": 1}, **route)
        judge(probe, respond, **route)
    for request in sent:
        valid = request.method not in ("GET", "HEAD", "OPTIONS", "PROPFIND") and request.path != "/models"
        assert not valid or b"no-such-model" in (request.body or b"") or not _is_object(request), request


def _is_object(request: Request) -> bool:
    import json

    try:
        return isinstance(json.loads(request.body or b""), dict)
    except (ValueError, RecursionError):
        return False


def constant(response: Response) -> Callable[[Request], Response]:
    return lambda request: response


UNKNOWN_MODEL = error(400, "model_not_found", x_request_id="1")
AUTH = error(401, "invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    ("probe", "response", "state"),
    [
        ("errors/no-key", AUTH, "passed"),
        ("errors/no-key", error(401, "no_key", "authentication_error"), "failed"),
        ("errors/no-key", error(400), "skipped"),
        ("errors/no-key", error(500), "failed"),
        (
            "errors/wrong-key",
            Response(status=401, headers=AUTH.headers, body=AUTH.body.replace(b"No.", WRONG_KEY.encode())),
            "failed",
        ),
        ("errors/wrong-key", Response(status=200), "failed"),
        ("errors/unknown-route", error(404), "passed"),
        ("errors/unknown-route", AUTH, "passed"),
        ("errors/unknown-route", Response(status=404, body=b"Not Found"), "failed"),
        ("errors/malformed-json", error(422), "passed"),
        ("errors/malformed-json", error(500, type="server_error"), "failed"),
        ("errors/malformed-json", error(404), "skipped"),
        ("errors/no-key", error(404), "skipped"),
        ("errors/no-json", error(415), "passed"),
        ("errors/unknown-model", error(400, "model_not_found"), "passed"),
        ("errors/unknown-model", error(400, "nope"), "failed"),
        ("ids/differ", error(404, x_request_id="1"), "failed"),
        ("ids/on-errors", error(404, request_id="1"), "passed"),
        ("methods/wrong-method", error(405, allow="GET"), "passed"),
        ("methods/wrong-method", error(405), "failed"),
        ("methods/options", Response(status=204, headers={"allow": "POST"}), "passed"),
        ("methods/options", Response(status=200), "failed"),
        ("methods/head-like-get", Response(status=200, body=b"{}"), "failed"),
        ("methods/head-like-get", Response(status=200), "passed"),
        ("bodies/declared", Response(status=100), "skipped"),
        ("bodies/declared", error(413), "passed"),
        ("bodies/deep", error(500, type="server_error"), "failed"),
        ("streams/error-before", Response(status=200, headers={"content-type": "text/event-stream"}), "failed"),
        ("limits/headers", error(404), "skipped"),
        ("limits/refused", error(404), "skipped"),
        ("cors/foreign-origin", Response(status=200, headers={"access-control-allow-origin": "*"}), "passed"),
    ],
)
def test_one_response_decides(probe: str, response: Response, state: str) -> None:
    row = judge(probe, constant(response))
    assert row.state == state, row.notes


def test_what_an_api_without_keys_admits_is_no_fault_unless_the_user_has_a_key() -> None:
    admitted = constant(Response(status=200))
    assert judge("errors/no-key", admitted, has_key=False).notes == ("asks for no key",)
    assert judge("errors/no-key", admitted).state == "failed"


def test_a_caller_without_a_key_learns_which_option_names_one() -> None:
    row = judge("errors/malformed-json", constant(AUTH), has_key=False)
    assert (row.state, row.notes) == ("skipped", ("needs an API key: --key-env NAME",))


def test_head_must_not_have_a_body() -> None:
    def respond(request: Request) -> Response:
        return error(404)

    row = judge("methods/head-of-nothing", respond)
    assert row.notes == ("the response to HEAD has a body of 69 bytes",)


PAGE = "https://flexmw-check.example"
PREFLIGHT = {
    "access-control-allow-origin": PAGE,
    "access-control-allow-headers": "Authorization, content-type",
    "vary": "Origin",
}


def cors(preflight: dict[str, str | None], others: dict[str, str]) -> Callable[[Request], Response]:
    headers = {name: value for name, value in {**PREFLIGHT, **preflight}.items() if value is not None}
    return lambda request: (
        Response(status=200, headers=headers) if request.method == "OPTIONS" else error(404, **others)
    )


@pytest.mark.parametrize(
    ("probe", "preflight", "others", "words"),
    [
        ("cors/preflight", {}, {}, None),
        ("cors/preflight", {"access-control-allow-headers": "*"}, {}, "does not name authorization"),
        ("cors/preflight", {"access-control-allow-headers": "authorization"}, {}, "does not name content-type"),
        (
            "cors/preflight",
            {"access-control-allow-origin": "*", "access-control-allow-credentials": "true"},
            {},
            "does not work with",
        ),
        ("cors/errors-readable", {}, {}, "a page cannot read the 404 of GET /flexmw-check/no-such-route"),
        ("cors/errors-readable", {}, {"access_control_allow_origin": PAGE}, "no Vary: Origin"),
        ("cors/errors-readable", {}, {"access_control_allow_origin": PAGE, "vary": "Accept, Origin"}, None),
        ("cors/exposed", {}, {"x_request_id": "1"}, "a page cannot read x-request-id"),
        ("cors/exposed", {}, {"x_request_id": "1", "access_control_expose_headers": "X-Request-ID"}, None),
        ("cors/preflights-admitted", {}, {}, None),
    ],
)
def test_what_a_browser_cannot_do_is_named(
    probe: str, preflight: dict[str, str | None], others: dict[str, str], words: str | None
) -> None:
    row = judge(probe, cors(preflight, others))
    assert (words or "") in "; ".join(row.notes)
    assert row.state == ("failed" if words else "passed")


def test_a_reflected_origin_with_cookies_is_a_hole() -> None:
    headers = {
        "access-control-allow-origin": "https://flexmw-check.invalid",
        "access-control-allow-credentials": "true",
    }
    row = judge("cors/foreign-origin", constant(Response(status=200, headers=headers)))
    assert row.notes == ("admits every origin together with its cookies",)


def test_a_preflight_that_is_rate_limited_is_named() -> None:
    count = iter(range(1000))

    def respond(request: Request) -> Response:
        return error(429) if next(count) > 60 else Response(status=200, headers=PREFLIGHT)

    assert judge("cors/preflights-admitted", respond).notes[0].startswith("preflight 61 in a row is refused")


def limiter(*, after: str, admits_again: bool) -> Callable[[Request], Response]:
    count = iter(range(1000))
    refusal = error(
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
        retry_after=after,
        x_ratelimit_limit_requests="10",
        x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="1800000007",
    )

    def respond(request: Request) -> Response:
        place = next(count)
        return refusal if place == 10 or (place > 10 and not admits_again) else error(404)

    return respond


@pytest.mark.parametrize(
    ("probe", "after", "admits_again", "state"),
    [
        ("limits/refused", "7", True, "passed"),
        ("limits/refused", "60", True, "failed"),
        ("limits/obeyed", "7", True, "passed"),
        ("limits/obeyed", "7", False, "failed"),
        ("limits/obeyed", "600", True, "skipped"),
    ],
)
def test_a_limiter_is_judged_by_its_refusal_and_by_what_follows(
    probe: str, after: str, admits_again: bool, state: str
) -> None:
    row = judge(probe, limiter(after=after, admits_again=admits_again))
    assert row.state == state, row.notes


def test_two_results_under_one_key_are_a_fault() -> None:
    count = iter(range(10))

    def respond(request: Request) -> Response:
        return Response(status=200, headers={"idempotency-key-ttl": "60"}, body=b"%d" % next(count))

    row = judge("idempotency/executed-once", respond)
    assert row.notes == ("two calls with one key at the same moment got two results",)


def test_a_call_that_is_in_progress_is_asked_for_again() -> None:
    count = iter(range(10))

    def respond(request: Request) -> Response:
        if next(count) == 1:
            return error(409, "idempotency_in_progress", retry_after="1")
        return Response(status=200, headers={"idempotency-key-ttl": "60"}, body=b"one")

    row = judge("idempotency/executed-once", respond)
    assert (row.state, len(row.exchanges)) == ("passed", 3)


WHOLE = CHUNK + CHUNK + DONE


def resuming(*, digest: bytes | None = None, rest: bytes = WHOLE[20:]) -> Callable[[Request], Response]:
    import base64

    right = digest if digest is not None else hashlib.sha256(WHOLE[:20]).digest()
    shown = base64.b64encode(right).decode()

    def respond(request: Request) -> Response:
        fields = dict(request.headers)
        if "idempotent-stream" not in fields:
            first = {"idempotent-stream": f'"{GENERATION}"', "content-type": "text/event-stream"}
            return Response(status=200, headers=first, body=WHOLE[:20])
        assert fields["idempotent-stream"] == f'"{GENERATION}";from=20'
        headers = {"idempotent-stream": f'"{GENERATION}";from=20;sha256=:{shown}:'}
        return Response(status=200, headers=headers, body=rest)

    return respond


def test_a_stream_that_goes_on_where_it_was_cut_passes() -> None:
    assert judge("resumable/continued", resuming()).state == "passed"


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        (resuming(digest=bytes(32)), "sha256 of the continuation is not the digest"),
        (resuming(rest=WHOLE[21:]), "an event is not a JSON object"),
        (resuming(rest=WHOLE[20:-3]), "does not end in a blank line"),
    ],
)
def test_a_stream_that_goes_on_elsewhere_is_named(responses: Callable[[Request], Response], words: str) -> None:
    assert words in "; ".join(judge("resumable/continued", responses).notes)


def test_a_route_that_reads_no_body_is_not_sent_one() -> None:
    row = judge("errors/malformed-json", constant(error(400)), method="GET", path="/items", is_llm=False)
    assert row.notes == ("GET /items reads no body: name another one by --route",)


def test_any_json_route_can_be_asked() -> None:
    for probe in ("errors/malformed-json", "errors/no-key", "bodies/mebibyte", "ids/on-errors"):
        row = judge(probe, constant(error(400, x_request_id="1")), path="/orders", is_llm=False, read_path=None)
        assert row.state in ("passed", "skipped")
        assert row.exchanges
    row = judge("errors/unknown-model", constant(error(400)), path="/orders", is_llm=False)
    assert row.notes == ("only for POST /chat/completions",)


def test_a_404_about_the_model_is_no_missing_route() -> None:
    def respond(code: str) -> Callable[[Request], Response]:
        return lambda request: error(404, code) if b"messages" in (request.body or b"") else error(422)

    assert judge("errors/unknown-model", respond("model_not_found")).state == "passed"
    row = judge("errors/unknown-model", respond("no_such_model"))
    assert row.notes == ("error.code is 'no_such_model', not 'model_not_found'",)


def test_an_api_that_asks_for_keys_must_refuse_a_wrong_one_as_such() -> None:
    row = judge("errors/wrong-key", lambda request: AUTH if request.key == "none" else error(400))
    assert row.notes == ("status is 400, not 401",)
