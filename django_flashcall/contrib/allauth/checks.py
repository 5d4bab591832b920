"""System checks: find settings of allauth that do not fit calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.app_settings import LoginMethod
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.urls import NoReverseMatch, resolve, reverse

from ...backends import load_class
from ...conf import CODE_LENGTHS, conf
from ...models import Phone
from .adapter import PURPOSE, PURPOSE_WITHOUT_ACCOUNT, FlashcallAdapterMixin
from .codes import code_length

CALLING_PAGES = [
    *(
        f"account_{page}"
        for page in (
            "signup",
            "login",
            "request_login_code",
            "confirm_login_code",
            "verify_phone",
            "change_phone",
            "request_reauthentication_code",
            "confirm_reauthentication_code",
        )
    ),
    *(
        f"headless:{client}:account:{page}"
        for client in ("browser", "app")
        for page in (
            "signup",
            "login",
            "request_login_code",
            "resend_login_code",
            "verify_phone",
            "resend_phone_verification_code",
            "manage_phone",
            "request_reauthentication_code",
            "resend_reauthentication_code",
        )
    ),
]
"""Names of allauth's URLs whose views place calls."""


@register("django_flashcall")
def check_allauth(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return errors for settings with which nobody is called, or codes are not safe."""
    if not isinstance(get_adapter(), FlashcallAdapterMixin):
        return [
            Error(
                "ACCOUNT_ADAPTER does not use FlashcallAdapterMixin, so allauth calls nobody.",
                hint="List the mixin first: class Adapter(FlashcallAdapterMixin, "
                "DefaultAccountAdapter), and name that class in ACCOUNT_ADAPTER.",
                id="django_flashcall_allauth.E001",
            )
        ]
    return [
        *_code_format(),
        *_providers(),
        *_transactions(),
        *_sessions(),
        *_verification(),
        *_purposes(),
    ]


@register("django_flashcall", deploy=True)
def check_allauth_deployment(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return warnings for settings that are fine in development but not in production."""
    return [*_login_codes(), *_resend()]


def _code_format() -> Iterator[CheckMessage]:
    code_format = app_settings.PHONE_VERIFICATION_CODE_FORMAT
    length = code_format.get("length")
    if code_format and not (length in CODE_LENGTHS and code_format.get("numeric")):
        yield Error(
            "allauth's codes are not what a call can bring: 4 or 6 digits.",
            hint="Set ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT to "
            '{"numeric": True, "length": 4}, or to 6, or remove it: then the codes have as many '
            "digits as FLASHCALL['CODE_LENGTH'] says.",
            id="django_flashcall_allauth.E002",
        )


def _providers() -> Iterator[CheckMessage]:
    try:
        if code_length() not in CODE_LENGTHS:
            return
        channels = conf.channels_with(code_length())
        aliases = [alias for channel in channels for alias in conf.CHANNELS[channel]]
        choosing = [load_class(conf.BACKENDS[alias]).chooses_code for alias in aliases]
    except (ImproperlyConfigured, KeyError):
        return  # the checks of FLASHCALL report it
    if all(choosing):
        yield Error(
            f"No provider can call with a code of allauth, which has {code_length()} digits.",
            hint="allauth chooses the codes, so it needs a backend without `chooses_code`. Voice "
            "codes have 4 digits.",
            id="django_flashcall_allauth.E003",
        )


def _transactions() -> Iterator[CheckMessage]:
    alias = router.db_for_write(Phone)
    if not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return
    atomic = []
    for name in CALLING_PAGES:
        try:
            view = resolve(reverse(name)).func
        except NoReverseMatch:
            continue  # the site does not have this page
        if alias not in getattr(view, "_non_atomic_requests", ()):
            atomic.append(name)
    if atomic:
        yield Error(
            f"ATOMIC_REQUESTS runs views of allauth that place calls in transactions: "
            f"{', '.join(atomic)}. They answer 500, because a rollback would undo the limits.",
            hint="In your URLs, replace include() for allauth by non_atomic_include() of "
            "django_flashcall.contrib.allauth.urls.",
            id="django_flashcall_allauth.E004",
        )


def _sessions() -> Iterator[CheckMessage]:
    if settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies":
        yield Error(
            "SESSION_ENGINE keeps sessions in cookies. allauth keeps the code in the session, so "
            "visitors can read it there and verify any number.",
            hint="Use a SESSION_ENGINE that keeps sessions on the server.",
            id="django_flashcall_allauth.E005",
        )


def _verification() -> Iterator[CheckMessage]:
    if not app_settings.PHONE_VERIFICATION_ENABLED:
        yield Error(
            "ACCOUNT_PHONE_VERIFICATION_ENABLED is False, so no number is ever verified, and "
            "nobody can log in with one.",
            hint="Remove the setting.",
            id="django_flashcall_allauth.E006",
        )


def _purposes() -> Iterator[CheckMessage]:
    try:
        taken = conf.PURPOSES.keys() & {PURPOSE, PURPOSE_WITHOUT_ACCOUNT}
    except ImproperlyConfigured:
        return  # the checks of FLASHCALL report it
    for name in sorted(taken):
        yield Error(
            f"PURPOSES has the key '{name}', which is the name of the calls of "
            "django_flashcall.contrib.allauth.",
            hint="Give the purpose another name.",
            id="django_flashcall_allauth.E007",
        )


def _login_codes() -> Iterator[CheckMessage]:
    by_phone = LoginMethod.PHONE in app_settings.LOGIN_METHODS
    without_password = "password1" not in app_settings.SIGNUP_FIELDS
    by_code = app_settings.LOGIN_BY_CODE_ENABLED or without_password
    if by_phone and by_code and code_length() < max(CODE_LENGTHS):
        yield Warning(
            "allauth logs people in with 4-digit codes: one guess in 10,000 logs in.",
            hint="Ask the provider to enable 6-digit codes, then set "
            'ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT = {"numeric": True, "length": 6}.',
            id="django_flashcall_allauth.W001",
        )


def _resend() -> Iterator[CheckMessage]:
    missing = []
    if (
        "phone" in app_settings.SIGNUP_FIELDS
        and not app_settings.PHONE_VERIFICATION_MAX_RESEND_COUNT
    ):
        missing.append("ACCOUNT_PHONE_VERIFICATION_SUPPORTS_RESEND")
    by_phone = LoginMethod.PHONE in app_settings.LOGIN_METHODS
    if (
        by_phone
        and app_settings.LOGIN_BY_CODE_ENABLED
        and not app_settings.LOGIN_BY_CODE_MAX_RESEND_COUNT
    ):
        missing.append("ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND")
    if missing:
        yield Warning(
            f"Visitors whose phone did not ring cannot request another call: {', '.join(missing)} "
            "is not set.",
            hint="Set it to 2. The first call can fail, for example if the phone has no signal.",
            id="django_flashcall_allauth.W002",
        )
