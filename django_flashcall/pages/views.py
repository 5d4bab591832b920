"""The pages: enter the number, enter the code, create the account, done.

You can subclass every view and override every template. Actions are POST requests that redirect;
the next page shows the error once, if there is one.
"""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.contrib.auth import authenticate, get_user_model, login
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import get_script_prefix
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.generic import TemplateView

from .. import forms, services, sessions
from ..conf import VOICE_CODE
from ..delivery import reasons
from ..exceptions import (
    AlreadyVerified,
    ChallengeRequired,
    Cooldown,
    FlashcallError,
    InvalidCode,
    InvalidToken,
    NoAccount,
    PhoneTaken,
)
from ..models import Call, Verification
from ..prepared.keys import is_key_of
from ..protection import challenges, devices, visitors
from ..verification.lookup import explain, rejection
from ..verification.owners import is_taken
from ..verification.tokens import CHANGE, LOGIN, issue_again
from .base import DEFAULT_PURPOSE, FormPage, Page, VerificationPage, wants_json

__all__ = ["CancelView", "CheckView", "DoneView", "ResendView", "SignupView", "StartView"]


class StartView(FormPage):
    """Ask for the number and place a call.

    Attributes:
        purpose: the purpose of the verification if the URL has no ``?purpose=``.
    """

    template_name = "django_flashcall/start.html"
    form_class = forms.PhoneForm
    purpose = DEFAULT_PURPOSE

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "purpose": self.get_purpose()}

    def get_purpose(self) -> str:
        return self.request.GET.get("purpose", self.purpose)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        waiting = sessions.current(self.request)
        context = super().get_context_data(waiting=waiting, **kwargs)
        form = context["form"]
        if self.request.method == "GET" and (refusal := sessions.pop_error(self.request)):
            forms.add_stored_error(form, refusal)
        if form.has_error(NON_FIELD_ERRORS, ChallengeRequired.error_code):
            context["challenge"] = challenges.offer()
        return context

    def proceed(self, form: Any) -> HttpResponseBase:
        if (response := self.reauthenticate()) is not None:
            return response
        request = self.request
        challenged = services.require_challenge(request, form.cleaned_data["phone"])
        verification = services.start(
            **form.cleaned_data,
            purpose=self.get_purpose(),
            user=getattr(request, "user", None),
            session=visitors.bind_session(request),
            ip=visitors.client_ip(request),
            device=services.device_of(request),
            challenged=challenged,
        )
        sessions.set_current(request, verification)
        return redirect(self.url("check", verification.pk))

    def refused(self, form: Any, error: FlashcallError) -> HttpResponse:
        # The visitor went back or submitted twice: the call was already placed.
        waiting = sessions.current(self.request)
        if (
            isinstance(error, Cooldown)
            and waiting is not None
            and waiting.phone.number == form.cleaned_data["phone"]
            and waiting.purpose == self.get_purpose()
        ):
            return redirect(self.url("check", waiting.pk))
        return super().refused(form, error)


class CheckView(VerificationPage, FormPage):
    """Ask for the code. JSON requests get the current state, for ``static/…/flashcall.js``."""

    template_name = "django_flashcall/check.html"
    form_class = forms.CodeForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if wants_json(request):
            response: HttpResponse = JsonResponse(self.state())
        elif self.is_kept():
            response = redirect(self.get_success_url())
        else:
            response = super().get(request, *args, **kwargs)
        patch_vary_headers(response, ["Accept"])
        return response

    def is_kept(self) -> bool:
        """Return True if the number is verified and the session has its token."""
        try:
            kept = sessions.verification(self.request, purpose=self.verification.purpose)
        except InvalidToken:
            return False
        return kept == self.verification

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "length": self.verification.code_length}

    def form_invalid(self, form: Any) -> HttpResponse:
        # Only an empty field is invalid here. As in the services, that it is too late comes first.
        finished = explain(self.verification)
        response: HttpResponse = self.refused(
            form, finished or InvalidCode(self.verification.code_length)
        )
        return response

    def proceed(self, form: Any) -> HttpResponseBase:
        if (response := self.reauthenticate()) is not None:
            return response
        ip = visitors.client_ip(self.request)
        token = services.check(self.verification, form.cleaned_data["code"], ip=ip)
        return self.go_on(token)

    def go_on(self, token: str) -> HttpResponse:
        sessions.keep(self.request, self.verification, token)
        response = self.succeed()
        # Last: if the database fails before, the visitor still has the session that it knows.
        sessions.renew(self.request, self.verification)
        devices.remember(self.request, response, self.verification.phone.number)
        return response

    def succeed(self) -> HttpResponse:
        """Continue after the number was verified and its token stored in the session.

        Verified for ``login``, the visitor is logged in. If a logged-in user verified the number
        for ``signup`` or ``change``, it becomes theirs at once. Otherwise your code or the sign-up
        page redeems the token.
        """
        purpose = self.get_purpose()
        if purpose == LOGIN:
            return self.log_in()
        if self.sets_number():
            try:
                sessions.redeem(self.request, purpose=purpose, user=self.request.user)
            except PhoneTaken:
                sessions.forget(self.request, purpose=purpose)
                return redirect(self.url("taken"))
            except FlashcallError:
                sessions.forget(self.request, purpose=purpose)
                raise
        return redirect(self.get_success_url())

    def log_in(self) -> HttpResponse:
        """Log the visitor in; if the number cannot log in, return to the page that asks for it."""
        try:
            sessions.log_in(self.request)
        except (NoAccount, PhoneTaken) as error:
            sessions.forget(self.request, purpose=LOGIN)
            sessions.store_error(self.request, error)
            return redirect(self.start_url())
        return redirect(self.get_success_url())

    def refused(self, form: Any, error: FlashcallError) -> Any:
        if not isinstance(error, AlreadyVerified):
            return self.back(error)
        token = None if self.is_kept() else issue_again(self.verification)
        if token is None:
            return self.back()
        try:
            return self.reauthenticate() or self.go_on(token)  # the response was lost
        except FlashcallError as refusal:
            return self.back(refusal)

    def state(self) -> dict[str, Any]:
        """Return the current state for the script; times are in seconds from now."""
        verification = self.verification
        call = verification.newest_call
        return {
            "status": verification.status,
            "call": {"status": call.status, "error_code": call.error_code or None},
            "hint": hint(call),
            "resend_in": self.resend_in(),
            "expires_in": seconds_until(verification.expires_at),
        }

    def resend_in(self) -> int | None:
        """Return the seconds until the next possible call; None if the verification ends first."""
        at = self.verification.resend_at
        if at is None or at >= self.verification.expires_at:
            return None
        return seconds_until(at)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        verification = self.verification
        context = super().get_context_data(**kwargs)
        refusal = sessions.pop_error(self.request, verification)
        form = context["form"]
        over: Any = None
        if finished := explain(verification):
            over = refusal["message"] if refusal else finished.message
        elif refusal:
            forms.add_stored_error(form, refusal)
            forms.focus(form)
        elif rejected := rejection(verification.newest_call):
            forms.add_service_error(form, rejected)
            forms.focus(form)
        if refusal and refusal["error_code"] == ChallengeRequired.error_code:
            context["challenge"] = challenges.offer()
        call = placed(verification)
        others = [channel for channel in verification.channels if channel != call.channel]
        context.update(
            verification=verification,
            call=call,
            voice=call.channel == VOICE_CODE,
            hint=hint(verification.newest_call),
            resend_in=self.resend_in(),
            expires_in=seconds_until(verification.expires_at),
            others=others,
            over=over,
            verified=refusal is None and isinstance(finished, AlreadyVerified),
            success_url=self.get_success_url(),
            start_url=self.start_url(),
        )
        return context


class ResendView(VerificationPage):
    """Request another call."""

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return self.back()

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        channel = request.POST.get("channel") or None
        try:
            services.resend(
                self.verification,
                channel=channel,
                ip=visitors.client_ip(request),
                challenged=services.require_challenge(request, self.verification.phone.number),
            )
        except FlashcallError as error:
            return self.back(error)
        return self.back()


class CancelView(VerificationPage):
    """Cancel the verification, so that the visitor can enter another number."""

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return self.back()

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        services.cancel(self.verification)
        return redirect(self.start_url())


class SignupView(FormPage):
    """Create the account after the number is verified; before that, redirect to verify it."""

    template_name = "django_flashcall/signup.html"
    form_class = forms.SignupForm
    verification: Verification

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return redirect(self.get_success_url())
        try:
            self.verification = sessions.verification(request)
        except InvalidToken as error:
            if request.method == "POST":  # verified, but too long ago
                sessions.store_error(request, error)
            return redirect(self.url("start", next=request.get_full_path()))
        return super().enter(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(verification=self.verification, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_taken(self.verification.phone):  # before the form is filled in
            return self.taken()
        return super().get(request, *args, **kwargs)

    def taken(self) -> HttpResponse:
        sessions.forget(self.request, purpose=DEFAULT_PURPOSE)
        return redirect(self.url("taken"))

    def proceed(self, form: Any) -> HttpResponse:
        try:
            user = form.save()
        except ValidationError:
            return self.form_invalid(form)
        except PhoneTaken:  # in the meantime, or it is in another account's field
            return self.taken()
        self.log_in(user, form.cleaned_data["password"])
        return redirect(self.get_success_url())

    def log_in(self, user: Any, password: str) -> None:
        """Log the new user in, if the site's authentication backends allow it."""
        name = get_user_model().USERNAME_FIELD
        known = authenticate(self.request, **{name: user.get_username()}, password=password)
        if known is not None:
            login(self.request, known)


class DoneView(Page, TemplateView):
    """The last page, if there was no ``?next=``."""

    template_name = "django_flashcall/done.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user = getattr(request, "user", None)
        verified = sessions.last_verified(request)
        if verified is not None and user is not None and user.is_authenticated:
            sets_number = verified.purpose in (DEFAULT_PURPOSE, CHANGE, LOGIN)
            # Their number may have been removed since, or belong to another account.
            if sets_number and not is_key_of(user, verified.phone.owner_id):
                verified = None
        phone = services.phone_of(user) if verified is None else verified.phone
        if phone is None:
            return redirect(self.url("start"))
        may_sign_up = False
        if user is not None and not user.is_authenticated:
            with suppress(InvalidToken):
                may_sign_up = sessions.verification(request) == verified
        home = get_script_prefix()
        context = self.get_context_data(phone=phone, may_sign_up=may_sign_up, home=home)
        return self.render_to_response(context)


def seconds_until(moment: datetime) -> int:
    return max(0, math.ceil((moment - timezone.now()).total_seconds()))


def hint(call: Call) -> str | None:
    """Return what the visitor can do about a call that was not delivered, or None."""
    if call.status != Call.Status.UNDELIVERED:
        return None
    return reasons.advice(call.error_code or "unknown")


def placed(verification: Verification) -> Call:
    """Return the call whose code is valid: the newest one that may have been placed."""
    newest = verification.newest_call
    if newest.status != Call.Status.REJECTED:
        return newest
    return Call.newest(verification.pk, placed=True) or newest
