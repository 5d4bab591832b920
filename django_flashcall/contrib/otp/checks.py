"""System checks of the device for django-otp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from ...conf import CODE_LENGTHS, Purpose, conf
from .models import PURPOSE

SIX_DIGITS = max(CODE_LENGTHS)


@register("flashcall_otp")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error if the devices have no purpose for their calls."""
    purposes = _purposes()
    if purposes is None or PURPOSE in purposes:
        return []
    return [
        Error(
            "FLASHCALL: django_flashcall.contrib.otp is installed, but PURPOSES has no 'otp'.",
            hint='Add "otp": {"CODE_LENGTH": 6} to PURPOSES, and keep the purposes that you use.',
            id="django_flashcall.E101",
        )
    ]


@register("flashcall_otp", deploy=True)
def check_deployment(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return warnings for short codes, and for transactions around the calls."""
    return [*_code_length(), *_atomic_requests()]


def _purposes() -> Mapping[str, Purpose] | None:
    try:
        return conf.PURPOSES
    except ImproperlyConfigured:
        return None  # `check_settings` of the app reports it


def _code_length() -> Iterator[CheckMessage]:
    purpose = (_purposes() or {}).get(PURPOSE)
    if purpose is not None and purpose.code_length < SIX_DIGITS:
        yield Warning(
            "FLASHCALL: the purpose 'otp' has 4-digit codes: one guess in 10,000 is a second "
            "factor.",
            hint="Ask the provider to enable 6-digit codes, then set "
            '"otp": {"CODE_LENGTH": 6} in PURPOSES.',
            id="django_flashcall.W101",
        )


def _atomic_requests() -> Iterator[CheckMessage]:
    for alias in connections:
        if connections[alias].settings_dict["ATOMIC_REQUESTS"]:
            yield Warning(
                f"FLASHCALL: ATOMIC_REQUESTS is set for the database {alias!r}, and the devices "
                "of django_flashcall.contrib.otp cannot call or check a code inside a transaction.",
                hint="Decorate each view that calls or checks a code with them with "
                "django_flashcall.decorators.non_atomic, then silence this warning.",
                id="django_flashcall.W102",
            )
