"""System checks: what is wrong with the settings, found before the first request.

``manage.py check`` runs `check_settings`, ``manage.py check --deploy`` also `check_deployment`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured

from .backends import BaseBackend, load_class
from .conf import CODE_LENGTHS, BackendConfig, FlashcallSettings, conf

IDS_OF_SETTINGS = {
    "BACKENDS": "django_flashcall.E003",
    "CODE_LENGTH": "django_flashcall.E009",
    "CHANNELS": "django_flashcall.E010",
    "CODE_TTL": "django_flashcall.E012",
    "PURPOSES": "django_flashcall.E014",
    "DELIVERY_REPORT_SECRETS": "django_flashcall.E015",
}
ID_OF_OTHER_SETTINGS = "django_flashcall.E013"


@register("django_flashcall")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Find unknown keys, wrong values, and settings that do not fit each other."""
    try:
        given = conf.given
    except ImproperlyConfigured as error:
        return [
            Error(str(error), hint="See the reference of settings.", id="django_flashcall.E001")
        ]
    return [
        *_unknown_keys(given),
        *_wrong_values(),
        *(message for _, _, messages in _backends() for message in messages),
        *_channels(),
        *_purposes(),
        *_user_phone_field(),
    ]


@register("django_flashcall", deploy=True)
def check_deployment(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Find what is right on a developer's machine and wrong on the open internet."""
    found: list[CheckMessage] = []
    for alias, config, messages in _backends():
        if not messages:
            found += load_class(config).check_deployment(alias, config.options)
    return [*found, *_deployment()]


def _deployment() -> Iterator[CheckMessage]:
    if _is_right("TEST_NUMBERS") and conf.TEST_NUMBERS:
        yield Warning(
            "FLASHCALL: TEST_NUMBERS is set: whoever knows such a number and its code can "
            "verify it without a call.",
            hint="Keep it for as long as a reviewer needs it, and use codes nobody guesses.",
            id="django_flashcall.W002",
        )
    if "CALLS_TOTAL" not in conf.given:
        yield Warning(
            "FLASHCALL: CALLS_TOTAL, the budget of the whole site, is left to its default.",
            hint='Choose what the site needs on its busiest day, for example "5000/day": an attack '
            "can cost no more, and beyond it nobody is called.",
            id="django_flashcall.W003",
        )
    proxied = settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST
    if proxied and _is_right("TRUSTED_PROXIES") and not conf.TRUSTED_PROXIES:
        yield Warning(
            "FLASHCALL: the site stands behind a proxy (SECURE_PROXY_SSL_HEADER or "
            "USE_X_FORWARDED_HOST), but TRUSTED_PROXIES is 0.",
            hint="Set TRUSTED_PROXIES to the number of proxies of yours that add to "
            "X-Forwarded-For; without it all visitors share the limits of one address.",
            id="django_flashcall.W004",
        )
    if _is_right("PURPOSES"):
        login = conf.PURPOSES.get("login")
        if login is not None and login.code_length < max(CODE_LENGTHS):
            yield Warning(
                "FLASHCALL: the purpose 'login' has codes of 4 digits: one guess in 10,000 opens "
                "an account.",
                hint='Have the provider enable 6 digits: {"login": {"CODE_LENGTH": 6}}.',
                id="django_flashcall.W005",
            )


def _unknown_keys(given: Any) -> Iterator[CheckMessage]:
    known = FlashcallSettings.all()
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key).upper(), known, n=1)
            yield Error(
                f"FLASHCALL has an unknown key {key!r}.",
                hint=f"Did you mean {close[0]!r}?" if close else f"Keys: {', '.join(known)}.",
                id="django_flashcall.E002",
            )


def _wrong_values() -> Iterator[CheckMessage]:
    for name, message in conf.problems():
        yield Error(
            f"FLASHCALL[{name!r}]: {message}.",
            hint=f"{name}: {FlashcallSettings.all()[name].meaning}.",
            id=IDS_OF_SETTINGS.get(name, ID_OF_OTHER_SETTINGS),
        )


def _backends() -> Iterator[tuple[str, BackendConfig, list[CheckMessage]]]:
    """Yield each alias with what its backend itself finds wrong with its options."""
    if not _is_right("BACKENDS"):
        return
    for alias, config in conf.BACKENDS.items():
        try:
            backend: type[BaseBackend] = load_class(config)
        except ImproperlyConfigured as error:
            yield (
                alias,
                config,
                [
                    Error(
                        f"FLASHCALL: backend {alias!r}: {error}",
                        hint="BACKEND is the dotted path of a subclass of "
                        "django_flashcall.backends.BaseBackend.",
                        id="django_flashcall.E004",
                    )
                ],
            )
        else:
            yield alias, config, backend.check_options(alias, config.options)


def _channels() -> Iterator[CheckMessage]:
    if not (_is_right("CHANNELS") and _is_right("BACKENDS")):
        return
    for channel, aliases in conf.CHANNELS.items():
        for alias in aliases:
            if alias not in conf.BACKENDS:
                yield Error(
                    f"FLASHCALL: channel {channel!r} names the backend {alias!r}, which BACKENDS "
                    "does not have.",
                    hint=f"BACKENDS has: {', '.join(conf.BACKENDS)}.",
                    id="django_flashcall.E010",
                )


def _purposes() -> Iterator[CheckMessage]:
    if not (_is_right("PURPOSES") and _is_right("CHANNELS")):
        return
    for purpose in conf.PURPOSES.values():
        if not conf.channels_for(purpose):
            yield Error(
                f"FLASHCALL: no channel can serve the purpose {purpose.name!r}, which demands "
                f"{purpose.code_length} digits.",
                hint="A voice code has 4 digits: lower CODE_LENGTH, or add flash_call to CHANNELS.",
                id="django_flashcall.E011",
            )


def _user_phone_field() -> Iterator[CheckMessage]:
    if not (_is_right("USER_PHONE_FIELD") and conf.USER_PHONE_FIELD):
        return
    try:
        get_user_model()._meta.get_field(conf.USER_PHONE_FIELD)
    except FieldDoesNotExist:
        yield Error(
            f"FLASHCALL: the user model has no field {conf.USER_PHONE_FIELD!r}.",
            hint="USER_PHONE_FIELD names a field of AUTH_USER_MODEL that holds a number in E.164.",
            id="django_flashcall.E017",
        )


def _is_right(name: str) -> bool:
    try:
        getattr(conf, name)
    except ImproperlyConfigured:
        return False
    return True
