"""Browsers and apps that verified a number before: strangers cannot use up their calls.

After the right code, a browser gets a cookie, and an app gets a mark that it sends in the header
``Flashcall-Device``. A mark is a random value, the time, and a signature over both and the number
(`django.core.signing`, which follows ``SECRET_KEY_FALLBACKS``). It contains no number, nobody can
find out with it which number it is for, and it is worthless for any other number.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from ..conf import conf

COOKIE = "flashcall_device"
HEADER = "Flashcall-Device"

MARKS = 3
"""Numbers that one browser is remembered for: the newest."""

LONGEST = 1000
"""Characters of a cookie or header that are read."""

_FORM = re.compile(r"[\w:-]+", re.ASCII)
"""The characters of a mark."""


def issue(number: str) -> str | None:
    """Return a mark for a visitor who has just verified a number; None if this is switched off.

    Args:
        number: the number in E.164 format.
    """
    if not conf.KNOWN_DEVICE_DAYS:
        return None
    return _signer(number).sign(secrets.token_urlsafe(9))


def is_known(number: str, marks: str | None) -> bool:
    """Return True if one of the marks, joined by full stops, is for a number and not too old."""
    days = conf.KNOWN_DEVICE_DAYS
    if not days or not marks:
        return False
    return any(_is_valid(number, mark, timedelta(days=days)) for mark in _split(marks))


def marks_of(request: Any) -> str:
    """Return the marks that a request of Django or Django REST framework has, unverified."""
    found = request.headers.get(HEADER, ""), request.COOKIES.get(COOKIE, "")
    return ".".join(text[:LONGEST] for text in found if text)


def remember(request: HttpRequest, response: HttpResponse, number: str) -> None:
    """Set the cookie of a browser that has just verified a number."""
    new = issue(number)
    if new is None:
        return
    marks = _split(request.COOKIES.get(COOKIE, ""))
    kept = [mark for mark in marks if _FORM.fullmatch(mark) and not is_known(number, mark)]
    response.set_cookie(
        COOKIE,
        ".".join([new, *kept[: MARKS - 1]]),
        max_age=timedelta(days=conf.KNOWN_DEVICE_DAYS),
        path=settings.SESSION_COOKIE_PATH,
        domain=settings.SESSION_COOKIE_DOMAIN,
        secure=settings.SESSION_COOKIE_SECURE or request.is_secure(),
        httponly=True,
        samesite="Lax",
    )


def _split(marks: str) -> Iterable[str]:
    return marks[: 2 * LONGEST].split(".")[: 2 * MARKS]


def _signer(number: str) -> signing.TimestampSigner:
    return signing.TimestampSigner(salt=f"django_flashcall.device {number}")


def _is_valid(number: str, mark: str, max_age: timedelta) -> bool:
    try:
        _signer(number).unsign(mark, max_age=max_age)
    except signing.BadSignature:
        return False
    return True
