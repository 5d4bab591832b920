from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.views import SpectacularSwaggerSplitView

from django_flashcall import services


@login_required
def profile(request: HttpRequest) -> HttpResponse:
    return render(request, "example/profile.html", {"phone": services.phone_of(request.user)})


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
