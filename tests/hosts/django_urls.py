"""Django's views and routes; Django wants them in a module."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

import flexmw

SECRET = "sk-canary-0123456789abcdef"


@require_safe
def ok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


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


urlpatterns: list[Any] = [
    path("ok", ok),
    path("items/<str:item>/part", part),
    path("validate", validate),
    path("limited", limited),
    path("crash", crash),
    path("kind", kind),
    path("kind-500", kind_500),
    path("thread", thread),
]
