#!/usr/bin/env bash
# Django REST framework and django-ratelimit read "1000/month" as a thousand requests a minute.
# Expected: a unit that a limiter does not know is refused, as django-ninja refuses it, or it is a month.
# Seen: the first letter decides: "month" is a minute, "decade" a day. django-ratelimit takes a letter that it does not
# know for none: "10/week" is ten requests a second. Nothing is logged, and nobody is refused.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'djangorestframework==3.18.3' 'django-ratelimit==4.1.0' 'django-ninja==1.7.1' 'Django==5.2.19'
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import django
from django.conf import settings

settings.configure(REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"user": "1000/month"}})
django.setup()

from django_ratelimit.core import get_usage
from django.test import RequestFactory
from ninja.throttling import UserRateThrottle as NinjaThrottle
from rest_framework.throttling import UserRateThrottle


def seconds(rate):
    """The longest time until a window of django-ratelimit ends: each of 200 callers has a window of its own."""
    request = RequestFactory().post("/orders")
    callers = [lambda group, _, n=n: f"caller {n}" for n in range(200)]
    return max(get_usage(request, group=rate, key=caller, rate=rate)["time_left"] for caller in callers)


rest = UserRateThrottle().duration
month, week = seconds("1000/month"), seconds("10/week")
try:
    ninja = NinjaThrottle("1000/month").duration
except ValueError as error:
    ninja = type(error).__name__
names = ("djangorestframework", "django-ratelimit", "django-ninja")
print({name: version(name) for name in names})
print(f"a month is {rest} s, at most {month} s, {ninja}; a week is at most {week} s")
raise SystemExit(0 if rest == 60 and 30 < month <= 60 and week <= 1 and ninja == "ValueError" else "changed: other units")
PYTHON
