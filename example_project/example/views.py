from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.views import SpectacularSwaggerSplitView

from django_flashcall import services, sessions
from django_flashcall.exceptions import InvalidToken, PhoneTaken


@login_required
def profile(request: HttpRequest) -> HttpResponse:
    return render(request, "example/profile.html", {"phone": services.phone_of(request.user)})


@login_required
def change_phone(request: HttpRequest) -> HttpResponse:
    """Verify another number, show it next to the current one, and save it when confirmed."""
    purpose = "change_phone"
    try:
        verification = sessions.verification(request, purpose=purpose)
        if request.method == "POST":
            phone = sessions.redeem(request, purpose=purpose, user=request.user)
            messages.success(request, _("Your number is now %s.") % phone.number)
            return redirect("profile")
    except InvalidToken:  # no number is verified yet
        return redirect(
            reverse("django_flashcall:start") + f"?purpose={purpose}&next={request.path}"
        )
    except PhoneTaken as error:
        messages.error(request, str(error))
        return redirect("profile")
    phones = {"old": services.phone_of(request.user), "new": verification.phone}
    return render(request, "example/change_phone.html", phones)


def api(request: HttpRequest) -> HttpResponse:
    """Show the API requests that an app sends."""
    return render(request, "example/api.html", {"api": request.build_absolute_uri("/api/")})


class Swagger(SpectacularSwaggerSplitView):
    """Swagger UI. It uses inline styles, so its CSP allows them."""

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(*args, **kwargs)
        response["Content-Security-Policy"] = (
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
        )
        return response
