from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from .screen import screen


@never_cache
def virtual_phone(request: HttpRequest) -> HttpResponse:
    """Return the current screen; the page requests it every second."""
    return render(request, "virtual_phone/screen.html", screen())
