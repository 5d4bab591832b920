"""The middleware, which connects our gateway and the pages of django-two-factor-auth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from two_factor.plugins.phonenumber.models import PhoneDevice

from ...decorators import non_atomic
from . import visits
from .methods import hint, is_ours

__all__ = ["FlashcallTwoFactorMiddleware"]


class FlashcallTwoFactorMiddleware:
    """Show why there was no call, count calls for the visitor's address, and allow transactions.

    The pages of django-two-factor-auth are exempted from ``ATOMIC_REQUESTS``: a call must not
    wait inside a transaction.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        with visits.visit(request):
            response: HttpResponseBase = self.get_response(request)
            return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        with visits.visit(request):
            response: HttpResponseBase = await self.get_response(request)
            return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        match = request.resolver_match
        if match is not None and "two_factor" in match.app_names:
            non_atomic(view)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        visit, context = visits.current(), response.context_data or {}
        form: Any = context.get("form")
        # `device` at setup, `initial_device` at login.
        device = getattr(form, "device", None) or getattr(form, "initial_device", None)
        if not (isinstance(device, PhoneDevice) and device.method == "call" and is_ours()):
            return response
        # The package forgets this after a wrong code, and then says that the call failed.
        context.setdefault("challenge_succeeded", True)
        if visit is None or visit.error is None:
            if "token" in form.fields:  # at setup: login has other words above the form
                form["token"].help_text = hint()
        else:
            form.cleaned_data = getattr(form, "cleaned_data", {})  # `add_error` needs it
            form.add_error(None, str(visit.error))
            context["challenge_succeeded"] = False
        return response
