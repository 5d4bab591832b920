"""Base classes of the pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import RedirectURLMixin
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, resolve_url
from django.template.loader import render_to_string, select_template
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, TemplateView, View

from .. import database_errors, forms, services, sessions
from ..decorators import non_atomic
from ..exceptions import FlashcallError, Unavailable, VerificationNotFound
from ..models import Verification
from ..verification.tokens import CHANGE

DEFAULT_PURPOSE = "signup"

BASES = ("django_flashcall/base.html", "base.html", "django_flashcall/standalone.html")
"""Base templates; the first that exists is used. It needs the blocks `title` and `content`."""


STANDALONE = BASES[-1]


class PageResponse(TemplateResponse):
    """A page that becomes status 503 if rendering it shows that the database is not available."""

    def render(self) -> Any:
        try:
            return super().render()
        except Error as error:
            if (refusal := database_errors.unavailable(error)) is None:
                raise
            return unavailable(self._request, refusal)


class Page(RedirectURLMixin, View):
    """Base of the pages: no login required, not cached, not atomic, CSRF-protected.

    ``?next=`` is where the visitor goes at the end; all pages pass it on. If the database is not
    available, the response is a page with status 503 that needs no database.
    """

    response_class: type[HttpResponse] = PageResponse

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return non_atomic(login_not_required(super().as_view(**initkwargs)))

    @method_decorator(sensitive_post_parameters("phone", "code", "password", "phone_token"))
    @method_decorator(csrf_protect)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = self.enter(request, *args, **kwargs)
            sessions.save(request, response)
        except Error as error:
            if (refusal := database_errors.unavailable(error)) is None:
                raise
            return unavailable(request, refusal)
        except Unavailable as refusal:
            return unavailable(request, refusal)
        # The pages show data of one visitor.
        response["Cache-Control"] = "no-store"
        return response

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kwargs)

    def url(self, name: str, *args: Any, **query: str) -> str:
        """Return the URL of another page, with the current ``?next=``."""
        match = self.request.resolver_match
        path = reverse(
            f"django_flashcall:{name}", args=args, current_app=match.namespace if match else None
        )
        if asked := self.get_redirect_url():
            query.setdefault(self.redirect_field_name, asked)
        return f"{path}?{urlencode(query)}" if query else path

    def get_default_redirect_url(self) -> str:
        if self.next_page:
            return super().get_default_redirect_url()
        match self.get_purpose():
            case "login":
                return resolve_url(settings.LOGIN_REDIRECT_URL)
            case "change":
                return self.url("number")
            case _:
                return self.url("done")

    def get_purpose(self) -> str:
        """Return the purpose of the verification that the page belongs to."""
        return DEFAULT_PURPOSE

    def sets_number(self) -> bool:
        """Return True if the number will be that of the logged-in user once it is verified."""
        user = getattr(self.request, "user", None)
        known = user is not None and user.is_authenticated
        return known and self.get_purpose() in (DEFAULT_PURPOSE, CHANGE)

    def reauthenticate(self) -> HttpResponseBase | None:
        """Ask the site whether the user may change their number; see `sessions.reauthenticate`."""
        return sessions.reauthenticate(self.request) if self.sets_number() else None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)  # type: ignore[misc]
        context["base_template"] = select_template(BASES)
        asked = self.get_redirect_url()
        context["query"] = f"?{urlencode({self.redirect_field_name: asked})}" if asked else ""
        return context  # type: ignore[no-any-return]


class FormPage(Page, FormView):  # type: ignore[type-arg]
    """A page with a form that shows the errors of the services."""

    def form_valid(self, form: Any) -> Any:
        try:
            return self.proceed(form)
        except FlashcallError as error:
            return self.refused(form, error)

    def proceed(self, form: Any) -> HttpResponseBase:
        """Process a valid form and return a redirect."""
        raise NotImplementedError

    def refused(self, form: Any, error: FlashcallError) -> HttpResponse:
        forms.add_service_error(form, error)
        return self.form_invalid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        forms.focus(context["form"])
        return context


class VerificationPage(Page):
    """Base of the pages of one verification, visible only to the visitor who started it."""

    verification: Verification

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        id: UUID = kwargs["id"]
        try:
            self.verification = services.find(id, **sessions.visitor(request))
        except VerificationNotFound as error:
            if wants_json(request):
                return JsonResponse({"status": error.error_code}, status=error.status_code)
            return NotFoundView.as_view()(request)  # type: ignore[no-any-return]
        return super().enter(request, *args, **kwargs)

    def get_purpose(self) -> str:
        return self.verification.purpose

    def start_url(self) -> str:
        """Return the URL to start another verification for the same purpose."""
        match purpose := self.get_purpose():
            case "signup":
                return self.url("start")
            case "login" | "change":
                return self.url(purpose)
            case _:
                return self.url("start", purpose=purpose)

    def back(self, error: FlashcallError | None = None) -> HttpResponse:
        """Redirect to the page of the verification, which shows the error, if any."""
        if error is not None:
            sessions.store_error(self.request, error, self.verification)
        return redirect(self.url("check", self.verification.pk))


class NotFoundView(Page, TemplateView):
    """The verification does not exist or belongs to someone else, or the session has ended."""

    template_name = "django_flashcall/not_found.html"

    def enter(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(), status=404)


def unavailable(request: HttpRequest, error: Unavailable) -> HttpResponse:
    """Return a response with status 503. It uses neither session nor user."""
    # The page that the visitor has open keeps its CSRF token, so that they can send it again, even
    # if a login that was not completed has renewed the token.
    request.META.pop("CSRF_COOKIE_NEEDS_UPDATE", None)
    response: HttpResponse
    if wants_json(request):
        response = JsonResponse({"status": error.error_code})
    else:
        response = HttpResponse(_unavailable_page(request))
    response.status_code = error.status_code
    response["Retry-After"] = str(error.retry_after)
    response["Cache-Control"] = "no-store"
    return response


def _unavailable_page(request: HttpRequest) -> str:
    """Return the page in the site's base template, or alone if that needs database or request."""
    name, context = "django_flashcall/unavailable.html", {"url": request.get_full_path()}
    try:
        return render_to_string(name, {**context, "base_template": select_template(BASES)})
    except Exception:  # the site's template can raise anything
        return render_to_string(name, {**context, "base_template": STANDALONE})


def wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"
