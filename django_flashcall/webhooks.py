"""The webhook for delivery reports: authenticate, parse and store them."""

from __future__ import annotations

import ipaddress
import logging
from http import HTTPStatus
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from . import database_errors, services
from .backends import BaseBackend, WebhookRequest, get_backend
from .conf import conf
from .decorators import non_atomic
from .exceptions import RETRY_AFTER_UNAVAILABLE, MalformedReport
from .protection import visitors

__all__ = ["DeliveryReportView"]

logger = logging.getLogger("django_flashcall")

MAX_BODY_BYTES = 64 * 1024


@method_decorator([csrf_exempt, login_not_required, non_atomic], name="dispatch")
class DeliveryReportView(View):
    """Receive delivery reports at ``<alias>/<secret>/``, also without the slash at the end.

    Status 200 for every well-formed report, known or not; 400 for anything else; 403 from an
    unknown network; 404 for a wrong secret or alias; 405; 413 over 64 KiB. 503 if the database is
    not available and 500 after a bug, so that the provider sends the report again. The path
    contains the secret and the body the code, so neither is ever logged.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse
        try:
            response = self.answer(request, **kwargs)
        except Exception as error:
            # Django would log the path, and email it with the local variables to the admins.
            name = database_errors.describe(error)
            logger.error("A delivery report was not stored: %s.", name)
            response = HttpResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
            if database_errors.is_temporary(error):
                response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
                response["Retry-After"] = str(RETRY_AFTER_UNAVAILABLE)
        response["Cache-Control"] = "no-store"
        # Keep Django from logging the path of responses with status 400 or higher.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response

    def answer(self, request: HttpRequest, alias: str, secret: str) -> HttpResponse:
        """Process a report and return a response without a body."""
        # Compare all secrets, so that the response time does not show which one matched.
        right = [constant_time_compare(secret, known) for known in conf.DELIVERY_REPORT_SECRETS]
        if not any(right) or alias not in conf.BACKENDS:
            return HttpResponse(status=HTTPStatus.NOT_FOUND)
        if not _is_known_network(request):
            logger.warning("A delivery report came from a foreign network.")
            return HttpResponse(status=HTTPStatus.FORBIDDEN)
        backend = get_backend(alias)
        if request.method not in backend.report_methods:
            return HttpResponseNotAllowed(sorted(backend.report_methods))
        # Check Content-Length first, so that no worker waits for a body that it will reject.
        announced = request.META.get("CONTENT_LENGTH") or ""
        if announced.isdecimal() and int(announced[:9]) > MAX_BODY_BYTES:
            return HttpResponse(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            body = request.read(MAX_BODY_BYTES + 1)
        except OSError:
            return HttpResponse(status=HTTPStatus.BAD_REQUEST)
        if len(body) > MAX_BODY_BYTES:
            return HttpResponse(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return _record(backend, request, body)


def _record(backend: BaseBackend, request: HttpRequest, body: bytes) -> HttpResponse:
    try:
        reports = backend.parse_reports(
            WebhookRequest(str(request.method), body, request.GET.dict(), request.headers)
        )
    except MalformedReport:
        # Not what it contains: that can be the code.
        logger.warning("A delivery report for backend %r could not be read.", backend.alias)
        return HttpResponse(status=HTTPStatus.BAD_REQUEST)
    for report in reports:
        services.record_report(report)
    return HttpResponse()


def _is_known_network(request: HttpRequest) -> bool:
    networks = conf.DELIVERY_REPORT_NETWORKS
    ip = visitors.client_ip(request)
    return not networks or (
        ip is not None and any(ipaddress.ip_address(ip) in network for network in networks)
    )
