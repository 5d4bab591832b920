"""URLs of a site with async views: those of the how-to, and some that tests look into it by."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_flashcall import services
from django_flashcall.decorators import phone_verified_required
from django_flashcall.exceptions import FlashcallError

from . import documents, urls

HOW_TO = documents.DOCS / "how-to" / "async.md"
(_block,) = [b for b in documents.blocks(HOW_TO) if b.caption == "people/async_views.py"]
_views: dict[str, Any] = {"__name__": "people.async_views"}
exec(compile(_block.text, str(HOW_TO), "exec"), _views)

INTERVAL = 0.005
"""Seconds between two beats."""

_lags: list[float] = []


async def _beat() -> None:
    while True:
        due = time.perf_counter() + INTERVAL
        await asyncio.sleep(INTERVAL)
        _lags.append(time.perf_counter() - due)


async def beats(request: HttpRequest) -> JsonResponse:
    """Return by how many seconds each beat of the event loop was late, since the last request."""
    if not hasattr(beats, "task"):
        beats.task = asyncio.create_task(_beat())  # type: ignore[attr-defined]
    late = _lags.copy()
    _lags.clear()
    return JsonResponse({"lags": late})


async def check(request: HttpRequest, id: UUID) -> JsonResponse:
    """Check a code and return the token."""
    try:
        token = await services.acheck(await services.afind(id), request.POST["code"])
    except FlashcallError as error:
        return JsonResponse({"error_code": error.error_code}, status=error.status_code)
    return JsonResponse({"token": token})


async def redeem(request: HttpRequest) -> JsonResponse:
    try:
        phone = await services.aredeem(request.POST["token"])
    except FlashcallError as error:
        return JsonResponse({"error_code": error.error_code}, status=error.status_code)
    return JsonResponse({"phone": phone.number})


@phone_verified_required
async def order(request: HttpRequest) -> HttpResponse:
    phone = await services.aphone_of(await request.auser())
    return HttpResponse(phone and phone.number)


urlpatterns = [
    *urls.urlpatterns,
    path("async/call/", csrf_exempt(_views["call"])),
    path("async/<uuid:id>/verify/", csrf_exempt(_views["verify"])),
    path("async/<uuid:id>/check/", csrf_exempt(check)),
    path("async/redeem/", csrf_exempt(redeem)),
    path("async/order/", order),
    path("async/beats/", beats),
]
