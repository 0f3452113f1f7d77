#!/usr/bin/env bash
# The decorator of drf-idempotency executes each POST of a REST framework view and answers 500.
# Expected: `@idempotent()` on a method of a view, or below `@api_view`, as its docstring has it: a 201, and for the same
# key the same 201 again.
# Seen: the order is made; then the decorator renders a Response that the framework has not given a renderer yet, and
# AssertionError makes it a 500. The key stays in progress: a retry is a 409 until the lock ends (after 30 seconds by
# default, 2 here), and the next one makes a second order. The middleware of the same package answers 201 for one order.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'drf-idempotency==1.0.0' 'djangorestframework==3.18.3' 'django==5.2.19'
"$work/venv/bin/python" - <<'PYTHON'
import logging
import time
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["__main__.for_one_path"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "drf_idempotency"],
    IDEMPOTENCY={"BACKEND": "drf_idempotency.backends.database.DatabaseBackend", "LOCK_TTL_SECONDS": 2},
)
django.setup()
logging.disable()

from django.core.management import call_command  # noqa: E402
from django.urls import path  # noqa: E402
from drf_idempotency import idempotent  # noqa: E402
from drf_idempotency.middleware import IdempotencyMiddleware  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

orders = []


def order():
    orders.append("order")
    return Response({"order": len(orders)}, status=201)


class Orders(APIView):
    @idempotent()
    def post(self, request):
        return order()


@api_view(["POST"])
@idempotent()
def decorated(request):
    return order()


@api_view(["POST"])
def plain(request):
    return order()


def for_one_path(get_response):
    """The package's middleware, for the view without the decorator."""
    guarded = IdempotencyMiddleware(get_response)
    return lambda request: (guarded if request.path == "/plain" else get_response)(request)


urlpatterns = [path("class", Orders.as_view()), path("function", decorated), path("plain", plain)]
call_command("migrate", verbosity=0)
client, seen = APIClient(raise_request_exception=False), {}
for name in ("class", "function", "plain"):
    orders.clear()
    post = lambda: client.post(f"/{name}", {"item": 1}, format="json", headers={"Idempotency-Key": name})  # noqa: E731
    statuses = [post().status_code, post().status_code]
    time.sleep(2.5)
    seen[name] = [*statuses, post().status_code, len(orders)]
print(f"drf-idempotency {version('drf-idempotency')}: three POSTs of one key: statuses and orders: {seen}")
expected = {"class": [500, 409, 500, 2], "function": [500, 409, 500, 2], "plain": [201, 201, 201, 1]}
raise SystemExit(0 if seen == expected else "changed: the decorator answers with the response of the view")
PYTHON
