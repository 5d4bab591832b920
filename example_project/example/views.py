import json
import urllib.request

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def calls(request: HttpRequest) -> HttpResponse:
    """Show what the simulator has "called", as a phone's list of missed calls would."""
    with urllib.request.urlopen(f"{settings.PROVIDER}calls", timeout=5) as answer:  # noqa: S310
        found = json.load(answer)
    return render(request, "example/calls.html", {"calls": found})
