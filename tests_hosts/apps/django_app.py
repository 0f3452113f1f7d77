"""The routes on Django, which has one settings object and one table of routes in a process."""

from __future__ import annotations

import json
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make", "urlpatterns"]

_works: list[Work] = []


def make(work: Work) -> Any:
    """Return a new app. Its routes use the latest ``work``."""
    _works[:] = [work]
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            DATA_UPLOAD_MAX_MEMORY_SIZE=None,
            SECRET_KEY="k" * 50,
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        )
        django.setup()
    return get_asgi_application()


@require_safe
async def ok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


@require_POST
def execute(request: HttpRequest) -> HttpResponse:  # in a thread of Django's
    try:
        n = json.loads(request.body)["n"]
    except (ValueError, KeyError):
        return JsonResponse({"detail": "The body is no JSON object with a member n."}, status=400)
    if not isinstance(n, int):
        return JsonResponse({"n": ["A valid integer is required."]}, status=400)
    return JsonResponse(_works[0].execute(n))


@require_POST
async def size(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


async def busy(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "Slow down, please."}, status=429, headers={"Retry-After": "7"})


async def kind(request: HttpRequest) -> HttpResponse:
    raise flexmw.ModelNotFound("foo")


async def crash(request: HttpRequest) -> HttpResponse:
    raise ValueError(SECRET)


async def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_works[0].events(), content_type="text/event-stream")


async def broken(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_works[0].broken(), content_type="text/event-stream")


async def ring(request: HttpRequest) -> HttpResponse:
    return HttpResponse(_works[0].ring())


urlpatterns: list[Any] = [
    path("ok", ok),
    path("once", ok),
    path("work", execute),
    path("size", size),
    path("busy", busy),
    path("kind", kind),
    path("crash", crash),
    path("events", events),
    path("broken", broken),
    path("ring", ring),
]
