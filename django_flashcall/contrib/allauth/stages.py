"""The steps of a login that call a number. A refused call does not end them.

By then the account exists, or its password was right. The visitor gets to the page for the code,
which shows the error, and can request another call there.
"""

from __future__ import annotations

from typing import Any

from allauth.account import stages
from allauth.account.adapter import get_adapter
from allauth.core import context
from allauth.core.exceptions import RateLimited
from allauth.core.internal.httpkit import headed_redirect_response
from django.contrib import messages

from .refusals import CallRefused

__all__ = ["LoginByCodeStage", "PhoneVerificationStage"]


class LoginByCodeStage(stages.LoginByCodeStage):
    """allauth's, where a code is required after another way to log in."""

    def handle(self) -> tuple[Any, bool]:
        try:
            response: tuple[Any, bool] = super().handle()
        except CallRefused:
            self.state["login_by_code_required"] = True
            return headed_redirect_response(self.urlname), True
        return response


class PhoneVerificationStage(stages.PhoneVerificationStage):
    """allauth's, at signup or login with a number that is not verified."""

    def handle(self) -> tuple[Any, bool]:
        try:
            response: tuple[Any, bool] = super().handle()
        except CallRefused:
            return headed_redirect_response(self.urlname), True
        except RateLimited:  # allauth would answer 500
            adapter = get_adapter()
            message = str(adapter.error_messages["rate_limited"])
            adapter.add_message(context.request, messages.ERROR, message=message)
            return headed_redirect_response(self.urlname), True
        return response
