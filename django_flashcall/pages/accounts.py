"""Pages of accounts: log in by phone, and the number of the logged-in user."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.views.generic import TemplateView

from .. import services
from ..conf import conf
from ..exceptions import ReauthenticationRequired
from ..models import Phone
from ..verification.owners import is_number_optional
from ..verification.tokens import CHANGE, LOGIN
from .base import DEFAULT_PURPOSE, FormPage, Page
from .views import StartView

__all__ = ["ChangeView", "LoginView", "NumberView", "RemoveView", "TakenView"]


class LoginView(StartView):
    """Log in by phone: ask for the number. The right code then logs the visitor in.

    Use it as ``LOGIN_URL`` of your site. Visitors who are logged in are redirected to ``?next=``,
    or to ``LOGIN_REDIRECT_URL``.
    """

    template_name = "django_flashcall/login.html"
    purpose = LOGIN

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        require_purpose(LOGIN)
        if request.user.is_authenticated:
            return redirect(self.destination())
        return super().enter(request, *args, **kwargs)

    def destination(self) -> str:
        """Return where a visitor who is logged in goes: not to this page, in a circle."""
        destination = self.get_success_url()
        if urlsplit(destination).path == self.request.path:
            return self.get_default_redirect_url()
        return destination

    def get_purpose(self) -> str:
        return self.purpose

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # Where a login creates accounts, nobody has to choose between the two.
        signs_up = conf.LOGIN.sign_up
        may_sign_up = DEFAULT_PURPOSE in conf.PURPOSES and not signs_up
        return super().get_context_data(signs_up=signs_up, may_sign_up=may_sign_up, **kwargs)


class UserPage(Page):
    """Base of the pages of a logged-in user; others are sent to ``LOGIN_URL``."""

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        return super().enter(request, *args, **kwargs)

    def get_purpose(self) -> str:
        return CHANGE

    def phone(self) -> Phone | None:
        """Return the number of the user, or None."""
        return services.phone_of(self.request.user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(phone=self.phone(), **kwargs)


class NumberView(UserPage, TemplateView):
    """Show the number of the user, masked, with links to change and remove it."""

    template_name = "django_flashcall/number.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            may_change=CHANGE in conf.PURPOSES, may_remove=is_number_optional(), **kwargs
        )


class ChangeView(UserPage, StartView):
    """Ask for the new number of the user. The right code then makes it theirs."""

    template_name = "django_flashcall/change.html"
    purpose = CHANGE

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        require_purpose(CHANGE)
        # A site that wants the password again can ask now. Otherwise the form shows the error.
        with suppress(ReauthenticationRequired):
            if (response := self.reauthenticate()) is not None:
                return response
        return super().get(request, *args, **kwargs)


class RemoveView(UserPage, FormPage):
    """Ask whether to remove the number of the user, and remove it."""

    template_name = "django_flashcall/remove.html"
    form_class = Form

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if self.phone() is None or not is_number_optional():
            return redirect(self.url("number"))
        return super().get(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(logs_in=LOGIN in conf.PURPOSES, **kwargs)

    def proceed(self, form: Any) -> HttpResponseBase:
        if (response := self.reauthenticate()) is not None:
            return response
        if self.phone() is not None:  # not removed by an earlier click
            services.remove_phone(self.request.user)
        return redirect(self.url("number"))


class TakenView(Page, TemplateView):
    """Explain that another account has the number, and what the visitor can do."""

    template_name = "django_flashcall/taken.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        known = self.request.user.is_authenticated
        another = "change" if CHANGE in conf.PURPOSES else "start"
        other = another if known else "signup"
        return super().get_context_data(
            may_log_in=not known and LOGIN in conf.PURPOSES, other_url=self.url(other), **kwargs
        )


def require_purpose(name: str) -> None:
    """Raise `Http404` if the site does not have a purpose."""
    if name not in conf.PURPOSES:
        raise Http404(f"PURPOSES has no {name!r}.")
