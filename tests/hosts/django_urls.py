"""Django's views and routes; Django wants them in a module."""

from __future__ import annotations

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

import flexmw

SECRET = "sk-canary-0123456789abcdef"


@require_safe
def ok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404


@require_safe
def part(request: HttpRequest, item: str) -> HttpResponse:
    return HttpResponse("fine")


def validate(request: HttpRequest) -> HttpResponse:
    if not isinstance(json.loads(request.body).get("n"), int):
        return JsonResponse({"n": ["A valid integer is required."]}, status=400)
    return HttpResponse("fine")


async def limited(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "Slow down, please."}, status=429, headers={"Retry-After": "7"})


async def crash(request: HttpRequest) -> HttpResponse:
    raise ValueError(SECRET)


async def kind(request: HttpRequest) -> HttpResponse:
    raise flexmw.ModelNotFound("foo", headers={"x-kind": "1"})


async def kind_500(request: HttpRequest) -> HttpResponse:
    raise flexmw.UpstreamTimeout()


def thread(request: HttpRequest) -> HttpResponse:
    raise flexmw.InsufficientCredit()


def bell() -> Any:
    from tests.hosts import words_apps

    if not _BELLS:
        _BELLS.append(words_apps.Bell())
    return _BELLS[0]


_BELLS: list[Any] = []


async def taken(request: HttpRequest) -> HttpResponse:
    """Django has no handlers by exception class: a view or a middleware catches it."""
    from tests.hosts import words_apps

    try:
        raise words_apps.SeatTakenError(words_apps.TEXT)
    except words_apps.SeatTakenError as error:
        return JsonResponse(words_apps.body(error), status=409)


async def unlucky(request: HttpRequest) -> HttpResponse:
    from tests.hosts import words_apps

    try:
        raise words_apps.UnluckyError
    except words_apps.UnluckyError:
        raise RuntimeError("the template is gone")  # noqa: B904


async def closed(request: HttpRequest) -> HttpResponse:
    return HttpResponse("The window closed early.", status=499)


async def idle(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(bell().events(), content_type="text/event-stream")


async def ring(request: HttpRequest) -> HttpResponse:
    return HttpResponse(bell().ring())


urlpatterns: list[Any] = [
    path("ok", ok),
    path("missing", missing),
    path("items/<str:item>/part", part),
    path("validate", validate),
    path("limited", limited),
    path("crash", crash),
    path("kind", kind),
    path("kind-500", kind_500),
    path("thread", thread),
    path("taken", taken),
    path("unlucky", unlucky),
    path("closed", closed),
    path("idle", idle),
    path("ring", ring),
]
