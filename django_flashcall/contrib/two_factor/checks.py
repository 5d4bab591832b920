"""System checks of the gateway for django-two-factor-auth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from two_factor.utils import totp_digits

from ...backends import load_class
from ...conf import conf
from .gateways import CODE_LENGTH, PURPOSE
from .methods import is_ours

GATEWAY = "django_flashcall.contrib.two_factor.gateways.FlashCall"
MIDDLEWARE = "django_flashcall.contrib.two_factor.middleware.FlashcallTwoFactorMiddleware"


@register("flashcall_two_factor")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return errors for settings with which the gateway cannot call."""
    if not is_ours():
        return [
            Error(
                "FLASHCALL: django_flashcall.contrib.two_factor is installed, but "
                "TWO_FACTOR_CALL_GATEWAY is not its gateway.",
                hint=f'Set TWO_FACTOR_CALL_GATEWAY = "{GATEWAY}".',
                id="django_flashcall.E111",
            )
        ]
    return [*_middleware(), *_digits(), *_channels()]


def _middleware() -> Iterator[CheckMessage]:
    if MIDDLEWARE not in settings.MIDDLEWARE:
        yield Error(
            "FLASHCALL: the middleware of django_flashcall.contrib.two_factor is missing: without "
            "it, a limit or an error of a provider is an error 500 at login.",
            hint=f'Add "{MIDDLEWARE}" at the end of MIDDLEWARE.',
            id="django_flashcall.E112",
        )


def _digits() -> Iterator[CheckMessage]:
    if totp_digits() != CODE_LENGTH:
        yield Error(
            "FLASHCALL: TWO_FACTOR_TOTP_DIGITS is not 6, and calls can carry no other codes.",
            hint="Remove TWO_FACTOR_TOTP_DIGITS.",
            id="django_flashcall.E113",
        )


def _channels() -> Iterator[CheckMessage]:
    try:
        conf.other_purpose(PURPOSE, CODE_LENGTH)
        channels = conf.channels_with(CODE_LENGTH)
        aliases = [alias for channel in channels for alias in conf.CHANNELS[channel]]
        able = [a for a in aliases if not load_class(conf.BACKENDS[a]).chooses_code]
    except ValueError:
        yield Error(
            f"FLASHCALL: PURPOSES has the key '{PURPOSE}', which is the name of the calls of "
            "django_flashcall.contrib.two_factor.",
            hint="Give the purpose another name.",
            id="django_flashcall.E114",
        )
        return
    except (ImproperlyConfigured, KeyError):
        return  # `check_settings` of the app reports it
    if not able:
        yield Error(
            "FLASHCALL: no channel can call with the 6-digit codes of django-two-factor-auth.",
            hint="Add flash_call to CHANNELS, with a provider that does not choose the codes: "
            "voice codes have 4 digits.",
            id="django_flashcall.E115",
        )
