"""How our errors become responses of allauth: a message on the page, or an error of its API."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.core.internal.httpkit import is_headless_request
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from ...exceptions import FlashcallError


class CallRefused(ImmediateHttpResponse):
    """A call was not placed, or a code is not accepted after all.

    allauth's middleware answers with the response, and keeps the earlier code of the session.

    Args:
        request: the request.
        error: what happened.
        page: the name of the page that shows the message; the same page by default.
    """

    def __init__(self, request: HttpRequest, error: FlashcallError, page: str = "") -> None:
        if is_headless_request(request):
            response = _api_response(request, error)
        else:
            response = HttpResponseRedirect(reverse(page) if page else request.get_full_path())
        super().__init__(response)
        adapter = get_adapter()
        adapter.add_message(request, messages.ERROR, message=str(error))


def _api_response(request: HttpRequest, error: FlashcallError) -> HttpResponse:
    from allauth.headless.internal.restkit.response import APIResponse

    described: dict[str, Any] = {"message": str(error), "code": error.error_code}
    if error.field in ("phone", "code"):
        described["param"] = error.field
    response: HttpResponse = APIResponse(request, errors=[described], status=error.status_code)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response
