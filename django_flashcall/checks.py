"""System checks: find wrong settings before the first request.

``manage.py check`` runs `check_settings`, ``manage.py check --deploy`` also `check_deployment`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections, router
from django.db.models import CharField, EmailField

from .backends import BaseBackend, load_class
from .conf import CODE_LENGTHS, BackendConfig, FlashcallSettings, Purpose, conf

IDS_OF_SETTINGS = {
    "BACKENDS": "django_flashcall.E003",
    "CODE_LENGTH": "django_flashcall.E009",
    "CHANNELS": "django_flashcall.E010",
    "CODE_TTL": "django_flashcall.E012",
    "PURPOSES": "django_flashcall.E014",
    "DELIVERY_REPORT_SECRETS": "django_flashcall.E015",
}
SQLITE_TIMEOUT = 20
"""Seconds for which a request should wait for others that write."""

SQLITE_OPTIONS = (
    f'"OPTIONS": {{"timeout": {SQLITE_TIMEOUT}, "transaction_mode": "IMMEDIATE", '
    '"init_command": "PRAGMA journal_mode=WAL"}'
)
ID_OF_OTHER_SETTINGS = "django_flashcall.E013"

ANSWERS = "django_flashcall.rest_framework.answers"


@register("django_flashcall")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return errors for unknown keys, invalid values and settings that contradict each other."""
    try:
        given = conf.given
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See the settings reference.", id="django_flashcall.E001")]
    return [
        *_unknown_keys(given),
        *_wrong_values(),
        *(message for _, _, messages in _backends() for message in messages),
        *_channels(),
        *_purposes(),
        *_user_phone_field(),
        *_new_accounts(),
        *_login_answer(),
        *_reassignment(),
        *_task_framework(),
    ]


@register("django_flashcall", deploy=True)
def check_deployment(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return warnings for settings that are fine in development but not in production."""
    found: list[CheckMessage] = []
    for alias, config, messages in _backends():
        if not messages:
            found += load_class(config).check_deployment(alias, config.options)
    return [*found, *_deployment()]


def _deployment() -> Iterator[CheckMessage]:
    if _is_right("TEST_NUMBERS") and conf.TEST_NUMBERS:
        yield Warning(
            "FLASHCALL: TEST_NUMBERS is set: anyone who knows a test number and its code can "
            "verify it without a call.",
            hint="Remove it when the app review is over, and use codes that are hard to guess.",
            id="django_flashcall.W002",
        )
    if not conf.writes("CALLS_TOTAL"):
        yield Warning(
            "FLASHCALL: CALLS_TOTAL, the limit on all calls of the site, is not set: the default "
            f"of {FlashcallSettings.CALLS_TOTAL.default} applies.",
            hint="Set it to the calls that the site needs on its busiest day, for example "
            '"5000/day". It caps what an attack can cost; when it is used up, nobody is called.',
            id="django_flashcall.W003",
        )
    proxied = settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST
    if proxied and _is_right("TRUSTED_PROXIES") and not conf.TRUSTED_PROXIES:
        yield Warning(
            "FLASHCALL: the site is behind a proxy (SECURE_PROXY_SSL_HEADER or "
            "USE_X_FORWARDED_HOST), but TRUSTED_PROXIES is 0.",
            hint="Set TRUSTED_PROXIES to the number of your proxies that add to "
            "X-Forwarded-For. Without it, all visitors share the limits of one address.",
            id="django_flashcall.W004",
        )
    if _is_right("DISPATCH") and conf.DISPATCH == "task":
        try:
            name = type(_task_backend()).__name__
        except Exception:  # those of the task frameworks have nothing in common
            name = ""  # `check_settings` reports it
        if name in ("ImmediateBackend", "DummyBackend"):
            yield Warning(
                f"FLASHCALL: DISPATCH is 'task', but TASKS uses {name}, which has no workers.",
                hint="Choose a backend with workers in TASKS, such as django-tasks-db, or set "
                "DISPATCH to 'inline'.",
                id="django_flashcall.W006",
            )
    if _is_right("PURPOSES"):
        login = conf.PURPOSES.get("login")
        if login is not None and login.code_length < max(CODE_LENGTHS):
            yield Warning(
                "FLASHCALL: the purpose 'login' has 4-digit codes: one guess in 10,000 logs in.",
                hint="Ask the provider to enable 6-digit codes, then set "
                '"login": {"CODE_LENGTH": 6} in PURPOSES, beside your other purposes.',
                id="django_flashcall.W005",
            )
    yield from _default_purposes()
    yield from _sqlite()


def _sqlite() -> Iterator[CheckMessage]:
    """Warn of options with which a request fails instead of waiting (Django's notes on SQLite)."""
    from .models import Verification

    database = connections[router.db_for_write(Verification)]
    if database.vendor != "sqlite":
        return
    options = database.settings_dict["OPTIONS"]
    waits = (options.get("transaction_mode") or "").upper() in ("IMMEDIATE", "EXCLUSIVE")
    waits = waits and options.get("timeout", 5) >= SQLITE_TIMEOUT
    if not (waits and "WAL" in options.get("init_command", "").upper()):
        yield Warning(
            "FLASHCALL: with these options of SQLite, requests at the same time can fail with "
            '"database is locked".',
            hint=f"Set in DATABASES: {SQLITE_OPTIONS}",
            id="django_flashcall.W007",
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
    """Yield each alias with the errors that its backend finds in its options."""
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
                    f"FLASHCALL: channel {channel!r} uses the backend {alias!r}, which is not in "
                    "BACKENDS.",
                    hint=f"Backends in BACKENDS: {', '.join(conf.BACKENDS)}.",
                    id="django_flashcall.E010",
                )


def _purposes() -> Iterator[CheckMessage]:
    if not (_is_right("PURPOSES") and _is_right("CHANNELS")):
        return
    if not conf.writes("PURPOSES"):
        return  # a site that does not use them need not mend the defaults: see `_default_purposes`
    for purpose in conf.PURPOSES.values():
        if not conf.channels_with(purpose.code_length):
            yield Error(
                f"FLASHCALL: no channel can serve the purpose {purpose.name!r}, which requires "
                f"{purpose.code_length} digits.",
                hint="Voice codes have 4 digits. Set CODE_LENGTH to 4 or add flash_call to "
                "CHANNELS.",
                id="django_flashcall.E011",
            )
        if number := _short_test_code(purpose):
            yield Error(
                f"FLASHCALL: the code of the test number {number} is shorter than the "
                f"{purpose.code_length} digits that the purpose {purpose.name!r} requires.",
                hint="Use codes of 6 digits in TEST_NUMBERS.",
                id="django_flashcall.E020",
            )


def _default_purposes() -> Iterator[CheckMessage]:
    """Warn of default purposes that cannot be used. It is no error: the site may not use them."""
    if conf.writes("PURPOSES") or not (_is_right("PURPOSES") and _is_right("CHANNELS")):
        return
    for purpose in conf.PURPOSES.values():
        if not conf.channels_with(purpose.code_length) or _short_test_code(purpose):
            yield Warning(
                f"FLASHCALL: the purpose {purpose.name!r} requires {purpose.code_length} digits, "
                "but the codes of a channel or a test number are shorter.",
                hint="Add flash_call to CHANNELS, use codes of 6 digits in TEST_NUMBERS, or list "
                "only the purposes that you use in PURPOSES.",
                id="django_flashcall.W008",
            )


def _short_test_code(purpose: Purpose) -> str | None:
    """Return a test number whose code is too short for a purpose; it is refused there."""
    numbers = conf.TEST_NUMBERS if _is_right("TEST_NUMBERS") else {}
    short = (number for number, code in numbers.items() if len(code) < purpose.code_length)
    return next(short, None)


def _reassignment() -> Iterator[CheckMessage]:
    if not (_is_right("REASSIGNED_NUMBERS") and conf.REASSIGNED_NUMBERS):
        return
    if not (_is_right("USER_PHONE_FIELD") and conf.USER_PHONE_FIELD):
        return
    from .verification.owners import is_number_optional

    try:
        optional = is_number_optional()
    except FieldDoesNotExist:
        return  # `_user_phone_field` reports it
    if not optional:
        yield Error(
            f"FLASHCALL: REASSIGNED_NUMBERS cannot move numbers: {conf.USER_PHONE_FIELD!r} of the "
            "user model cannot be empty.",
            hint="Let the field be null, or set REASSIGNED_NUMBERS to 'refuse'.",
            id="django_flashcall.E022",
        )


def _new_accounts() -> Iterator[CheckMessage]:
    """Report that login cannot create accounts of this user model."""
    if not (_is_right("LOGIN") and conf.LOGIN.sign_up and conf.LOGIN.create_user is None):
        return
    model: Any = get_user_model()
    phone = conf.USER_PHONE_FIELD if _is_right("USER_PHONE_FIELD") else None
    needed = [name for name in model.REQUIRED_FIELDS if name != phone]
    # An empty value that is unique fits one account only.
    missing = [
        field.name
        for field in map(model._meta.get_field, needed)
        if not field.blank or (field.unique and not field.null)
    ]
    username = model._meta.get_field(model.USERNAME_FIELD)
    if phone != model.USERNAME_FIELD and (
        not isinstance(username, CharField) or isinstance(username, EmailField)
    ):
        missing.append(model.USERNAME_FIELD)
    if missing:
        yield Error(
            "FLASHCALL: LOGIN cannot create accounts: the user model requires "
            f"{', '.join(missing)}.",
            hint="Set CREATE_USER in LOGIN to the dotted path of a callable(number) that creates "
            "and saves the account.",
            id="django_flashcall.E021",
        )


def _login_answer() -> Iterator[CheckMessage]:
    """Report that the tokens that a login answers with need what is not installed."""
    given = conf.given.get("LOGIN")
    answer = given.get("ANSWER") if isinstance(given, Mapping) else None
    if answer == f"{ANSWERS}.drf_token" and not apps.is_installed("rest_framework.authtoken"):
        yield Error(
            "FLASHCALL: ANSWER in LOGIN is 'drf_token', but 'rest_framework.authtoken' is not in "
            "INSTALLED_APPS.",
            hint="Add it, and run `manage.py migrate`.",
            id="django_flashcall.E023",
        )
    if answer == f"{ANSWERS}.jwt" and find_spec("rest_framework_simplejwt") is None:
        yield Error(
            "FLASHCALL: ANSWER in LOGIN is 'jwt', but djangorestframework-simplejwt is not "
            "installed.",
            hint="Run `pip install django-flashcall[jwt]`.",
            id="django_flashcall.E024",
        )


def _user_phone_field() -> Iterator[CheckMessage]:
    if not (_is_right("USER_PHONE_FIELD") and conf.USER_PHONE_FIELD):
        return
    try:
        field: Any = get_user_model()._meta.get_field(conf.USER_PHONE_FIELD)
        is_right = field.concrete and not field.is_relation
    except FieldDoesNotExist:
        is_right = False
    if not is_right:
        yield Error(
            f"FLASHCALL: the user model has no field {conf.USER_PHONE_FIELD!r}.",
            hint="USER_PHONE_FIELD must be a field of AUTH_USER_MODEL that stores E.164 numbers.",
            id="django_flashcall.E017",
        )


def _task_framework() -> Iterator[CheckMessage]:
    if not (_is_right("DISPATCH") and conf.DISPATCH == "task"):
        return
    try:
        _task_backend()
    except ImportError:
        yield Error(
            "FLASHCALL: DISPATCH is 'task', but Django's task framework is not installed.",
            hint="Use Django 6.0 or newer, or `pip install django-flashcall[tasks]` and add "
            "'django_tasks' to INSTALLED_APPS.",
            id="django_flashcall.E018",
        )
    except Exception as error:  # those of both frameworks have nothing in common
        yield Error(
            f"FLASHCALL: the tasks that place calls have no backend: {error}",
            hint="TASK_BACKEND must be an alias in TASKS, and TASK_QUEUE one of its queues.",
            id="django_flashcall.E019",
        )


def _task_backend() -> Any:
    """Return the backend of the tasks that place calls; raise an error if there is none."""
    from . import tasks

    if tasks.task is None:
        raise ImportError("django_tasks")
    if tasks.problem is not None:
        raise ImproperlyConfigured(str(tasks.problem))
    chosen = tasks.place_call.using(backend=conf.TASK_BACKEND, queue_name=conf.TASK_QUEUE)
    return chosen.get_backend()


def _is_right(name: str) -> bool:
    try:
        getattr(conf, name)
    except ImproperlyConfigured:
        return False
    return True
