"""The middleware of docs/hosts.md for Django."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

import flexmw


class SendErrors(MiddlewareMixin):
    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return HttpResponse(status=error.status) if isinstance(error, flexmw.APIError) else None
