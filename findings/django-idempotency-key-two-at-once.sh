#!/usr/bin/env bash
# Of two POSTs of one key that arrive together each is executed behind django-idempotency-key, whose lock is on.
# Expected: the second one waits, or is refused, while the first one is at work: the usual second POST of a key is a
# retry after a timeout, and the first one may be at work still.
# Seen: the lock, which is documented as one against two calls of a view at the same time, covers the look into the
# store and not the view: two orders and two 201 for one key. A POST that comes later is a 409.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'django-idempotency-key==1.3.0' 'djangorestframework==3.18.3' 'django==5.2.19'
"$work/venv/bin/python" - <<'PYTHON'
import logging
import threading
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["idempotency_key.middleware.IdempotencyKeyMiddleware"],
    IDEMPOTENCY_KEY={"STORAGE": {"CLASS": "idempotency_key.storage.CacheKeyStorage"}},
)
django.setup()
logging.disable()

from django.http import JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402

orders, both = [], threading.Barrier(2)


def order(request):
    orders.append("order")
    number = len(orders)
    try:
        both.wait(5)  # the first POST is at work until the second one is at work too
    except threading.BrokenBarrierError:
        pass
    return JsonResponse({"order": number}, status=201)


def post():
    statuses.append(Client().post("/orders", headers={"Idempotency-Key": "order-1"}).status_code)


urlpatterns, statuses = [path("orders", order)], []
threads = [threading.Thread(target=post) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
post()
print(f"django-idempotency-key {version('django-idempotency-key')}: statuses {statuses}, orders {len(orders)}")
raise SystemExit(0 if (statuses, len(orders)) == ([201, 201, 409], 2) else "changed: one of two is executed")
PYTHON
