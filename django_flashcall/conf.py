"""The settings of the app: the dictionary ``FLASHCALL`` in the site's settings.

Use ``from django_flashcall.conf import conf`` and ``conf.MAX_ATTEMPTS``. Values are read and
validated on every access, so ``override_settings`` works. ``manage.py check`` reports invalid
values, and reading one raises `ImproperlyConfigured`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import NoneType
from typing import Any, Generic, TypeVar, cast, overload

import phonenumbers
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from .redaction import Secret

__all__ = ["FLASH_CALL", "VOICE_CODE", "conf"]

T = TypeVar("T")

FLASH_CALL = "flash_call"
VOICE_CODE = "voice_code"
CHANNELS = (FLASH_CALL, VOICE_CODE)

VOICE_CODE_LENGTH = 4
"""Digits of a voice code (FlashingCall API, «Результат запроса VoiceCode»)."""

CODE_LENGTHS = (4, 6)
"""Code lengths that a flash call supports (FlashingCall API, «Результат запроса FlashingCall»)."""

SESSION = "session"
"""``ANSWER`` of ``LOGIN`` for a session of Django."""

SECRET_LENGTH = 32
"""Minimum length of a secret in a URL, in characters."""

MOST_DAYS = 36_500
"""A century: dates cannot go back as far as one likes."""

NUMBER_TYPES = tuple(
    name.lower() for name in phonenumbers.PhoneNumberType.__dict__ if name.isupper()
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `number` events in any window of `window`; written ``"8/day"`` as in DRF."""

    number: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """An entry of ``BACKENDS``."""

    path: str
    options: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Purpose:
    """A purpose of verifications, with the settings that apply to it. Times are in seconds."""

    name: str
    code_length: int
    code_ttl: int
    max_attempts: int
    max_calls: int
    token_max_age: int


@dataclass(frozen=True, slots=True)
class Login:
    """``LOGIN``: what login by phone does.

    Attributes:
        sign_up: whether a number without an account becomes one.
        create_user: creates and saves that account; None for the account of the app.
        answer: returns the response of the API; None for a session of Django.
    """

    sign_up: bool
    create_user: Callable[[str], Any] | None
    answer: Callable[[Any, Any], Mapping[str, Any] | HttpResponseBase] | None


def _integer(lowest: int, highest: int | None = None) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or value < lowest or (highest is not None and value > highest):
            limit = f"from {lowest} to {highest}" if highest is not None else f"{lowest} or more"
            raise ValueError(f"it must be a whole number, {limit}, not {value!r}")
        return value

    return parse


def _choice(*choices: Any) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if value not in choices or type(value) not in {type(choice) for choice in choices}:
            raise ValueError(f"it must be one of {', '.join(map(repr, choices))}, not {value!r}")
        return value

    return parse


def _optional(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else parse(value)


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple, set, frozenset)):
        # The message must not contain the value: it can be a secret.
        raise ValueError(f"it must be a list, not {type(value).__name__}")
    return tuple(value)


# DRF looks at the first letter only: "month" would be a minute.
_RATE = re.compile(
    r"([1-9]\d{0,8})/(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)", re.ASCII
)


def _rate(value: Any) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'it must be a rate like "20/hour" or "1000/day", not {value!r}')
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]
    return Rate(int(match[1]), timedelta(seconds=seconds))


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"it must be a name, not {value!r}")
    return value


def _callable(value: Any) -> Callable[..., Any]:
    path = _name(value)
    try:
        found = import_string(path)
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(f"it must be the dotted path of a callable: {error}") from None
    if not callable(found):
        raise ValueError(f"{value!r} is not callable")
    return cast("Callable[..., Any]", found)


def _region(value: Any) -> str:
    if not isinstance(value, str) or value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'it must be an ISO 3166 country code like "RU", not {value!r}')
    return value


def _regions(value: Any) -> frozenset[str] | None:
    return None if value == "*" else frozenset(_region(region) for region in _sequence(value))


def _number_types(value: Any) -> frozenset[str]:
    return frozenset(_choice(*NUMBER_TYPES)(word) for word in _sequence(value))


def _networks(
    value: Any,
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in _sequence(value))


def _secrets(value: Any) -> tuple[str, ...]:
    found = _sequence(value)
    for secret in found:
        # The message must not contain the value: it is a secret.
        if not isinstance(secret, str) or not re.fullmatch(
            rf"[A-Za-z0-9_-]{{{SECRET_LENGTH},}}", secret
        ):
            raise ValueError(
                f"each must be {SECRET_LENGTH} or more letters, digits, dashes and underscores"
            )
    return tuple(found)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise ValueError(
            f"it must be a dictionary with names as keys, not a {type(value).__name__}"
        )
    return value


def _alias(value: Any) -> str:
    # It stands in addresses of the admin and of delivery reports.
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", _name(value)):
        raise ValueError(f"{value!r} must be 1 to 64 letters, digits, dots, dashes and underscores")
    return str(value)


def _backends(value: Any) -> dict[str, BackendConfig]:
    found = {}
    for alias, entry in _mapping(value).items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("BACKEND"), str):
            raise ValueError(f'{alias!r} must be a dictionary with "BACKEND", a dotted path')
        if unknown := set(entry) - {"BACKEND", "OPTIONS"}:
            raise ValueError(
                f"{alias!r} has an unknown key {sorted(map(str, unknown))[0]!r}: "
                'it takes "BACKEND" and "OPTIONS"'
            )
        options = entry.get("OPTIONS", {})
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise ValueError(f'"OPTIONS" of {alias!r} must be a dictionary with names as keys')
        found[_alias(alias)] = BackendConfig(entry["BACKEND"], dict(options))
    if not found:
        raise ValueError("it must contain at least one backend")
    return found


def _channels(value: Any) -> dict[str, tuple[str, ...]]:
    found = {}
    for channel, aliases in _mapping(value).items():
        _choice(*CHANNELS)(channel)
        found[channel] = tuple(_name(alias) for alias in _sequence(aliases))
        if not found[channel]:
            raise ValueError(f"{channel!r} must have at least one backend")
    if not found:
        raise ValueError("it must contain at least one channel")
    return found


def _test_numbers(value: Any) -> dict[str, str]:
    found = _mapping(value)
    for number, code in found.items():
        # The message must not contain the code.
        if not re.fullmatch(r"\+[1-9]\d{6,14}", number):
            raise ValueError(f"{number!r} must be a number in E.164 format, with the plus sign")
        if not _is_possible(number):
            raise ValueError(f"{number!r} is too short or too long for a number")
        if not isinstance(code, str) or not re.fullmatch(r"[0-9]{4}|[0-9]{6}", code):
            raise ValueError(f"the code of {number!r} must be a string of 4 or 6 digits")
    return {number: Secret(code) for number, code in found.items()}


def _is_possible(number: str) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False


class Setting(Generic[T]):
    """A key of ``FLASHCALL``: its default, its parser, and its description.

    Args:
        default: the value if the site gives none.
        parse: returns the value in its final type; raises `ValueError` if it is wrong.
        meaning: the description.
        reads: the other settings that `parse` reads, if the result for a dictionary of plain values
            is kept until it or one of them changes; None to parse a dictionary or list each time.
    """

    def __init__(
        self,
        default: Any,
        parse: Callable[[Any], T],
        meaning: str,
        *,
        reads: Collection[str] | None = None,
    ) -> None:
        self.default = default
        self.parse = parse
        self.meaning = meaning
        self.reads = reads
        self._parsed: dict[Any, T] = {}

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...

    @overload
    def __get__(self, instance: FlashcallSettings, owner: type) -> T: ...

    def __get__(self, instance: FlashcallSettings | None, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        given = instance.given.get(self.name, self.default)
        key: Any = None
        if isinstance(given, (str, int, NoneType)):
            key = type(given), given  # 1 and True are equal
        elif self.reads is not None and isinstance(given, dict):
            key = repr([given, *map(instance.given.get, self.reads)])
        if key in self._parsed:
            return self._parsed[key]
        try:
            found = self.parse(given)
        except ValueError as error:
            raise ImproperlyConfigured(f"FLASHCALL[{self.name!r}]: {error}.") from None
        if key is not None and not callable(found):  # tests replace functions
            self._parsed[key] = found
        return found


_OVERRIDES = {
    "CODE_LENGTH": "code_length",
    "CODE_TTL": "code_ttl",
    "MAX_ATTEMPTS": "max_attempts",
    "MAX_CALLS": "max_calls",
    "TOKEN_MAX_AGE": "token_max_age",
}


def _check_purpose_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
        raise ValueError(f"{name!r} must be 1 to 32 letters, digits, dashes and underscores")


def _purposes(value: Any) -> dict[str, Purpose]:
    found = {}
    for name, overrides in _mapping(value).items():
        _check_purpose_name(name)
        if unknown := set(_mapping(overrides)) - set(_OVERRIDES):
            raise ValueError(
                f"{name!r} overrides {min(unknown)!r}; it can override {', '.join(_OVERRIDES)}"
            )
        values = {}
        for key, attribute in _OVERRIDES.items():
            setting: Setting[int] = getattr(FlashcallSettings, key)
            try:
                values[attribute] = (
                    setting.parse(overrides[key]) if key in overrides else getattr(conf, key)
                )
            except ValueError as error:
                raise ValueError(f"{key} of {name!r}: {error}") from None
        found[name] = Purpose(name, **values)
    if not found:
        raise ValueError("it must contain at least one purpose")
    return found


def _login(value: Any) -> Login:
    given = dict(_mapping(value))
    unknown_number = given.pop("UNKNOWN_NUMBER", "refuse")
    create_user = given.pop("CREATE_USER", None)
    answer = given.pop("ANSWER", SESSION)
    if given:
        raise ValueError(
            f"it has an unknown key {min(given)!r}; it takes UNKNOWN_NUMBER, CREATE_USER and ANSWER"
        )
    try:
        key = "UNKNOWN_NUMBER"
        sign_up = _choice("refuse", "sign_up")(unknown_number) == "sign_up"
        key = "CREATE_USER"
        create = _optional(_callable)(create_user)
        key = "ANSWER"
        return Login(sign_up, create, None if answer == SESSION else _callable(answer))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _reassignment(value: Any) -> int | Callable[..., Any] | None:
    if value == "refuse":
        return None
    if isinstance(value, str):
        return _callable(value)
    try:
        return _integer(1, MOST_DAYS)(value)
    except ValueError:
        raise ValueError(
            f'it must be "refuse", a number of days, or a dotted path, not {value!r}'
        ) from None


class FlashcallSettings:
    """Typed access to ``settings.FLASHCALL``; every read raises `ImproperlyConfigured` if wrong."""

    BACKENDS = Setting(
        {}, _backends, "alias → `BACKEND` (dotted path) and `OPTIONS` (keyword arguments); required"
    )
    CHANNELS = Setting(
        {FLASH_CALL: ["default"]},
        _channels,
        "channel → list of backend aliases; if the first one certainly cannot place a call, the "
        "next one tries",
    )
    CODE_LENGTH = Setting(
        4,
        cast("Callable[[Any], int]", _choice(*CODE_LENGTHS)),
        "digits of a flash call code: 4 or 6",
    )
    PURPOSES = Setting(
        {"signup": {}, "change": {}, "login": {"CODE_LENGTH": 6}},
        _purposes,
        f"purpose of verifications → overrides of {', '.join(_OVERRIDES)}; a channel whose codes "
        "are shorter than the purpose requires is not offered",
        reads=_OVERRIDES,
    )
    LOGIN = Setting(
        {},
        _login,
        "login by phone. `UNKNOWN_NUMBER`: `refuse` (default), or `sign_up` to create an account. "
        "`CREATE_USER`: dotted path of a `callable(number)` that creates it; by default, its "
        "username is the number or a random name, and it has no password. `ANSWER`: `session` "
        "(default), or the dotted path of a `callable(request, user)` that returns the response of "
        "the API",
    )
    REASSIGNED_NUMBERS = Setting(
        "refuse",
        _reassignment,
        "what happens when somebody verifies a number of another account, which their operator may "
        "have reassigned: `refuse`; or a number of days, to move it if its owner verified it "
        "longer ago; or the dotted path of a `callable(phone, user)` that returns True to move it "
        "(`user` is None at signup and login). A number that can be moved logs nobody in to the "
        "former account",
    )
    REAUTHENTICATE = Setting(
        None,
        _optional(_callable),
        "dotted path of a `callable(request)`, called before a logged-in user sets, changes or "
        "removes their number; it returns a true value to allow it. A page can return a redirect "
        "to your page that asks for the password again",
    )
    CODE_TTL = Setting(300, _integer(60, 600), "seconds until a verification expires, 60 to 600")
    MAX_ATTEMPTS = Setting(
        3, _integer(1, 10), "code attempts per verification; a resend does not add any"
    )
    MAX_CALLS = Setting(3, _integer(1, 10), "calls per verification")
    COOLDOWN = Setting(
        60, _integer(0, 86400), "minimum seconds between two calls to a number; 0 = no cooldown"
    )
    CALLS_PER_PHONE = Setting(
        "8/day",
        _rate,
        "calls to a number, over all verifications; one address can use at most half of them, "
        "rounded up",
    )
    KNOWN_CALLS_PER_PHONE = Setting(
        "5/day",
        _rate,
        "calls to a number, beside `CALLS_PER_PHONE`, that only its logged-in owner and devices "
        "that verified it before can use; these calls pass the limits on addresses and ranges and "
        "the fraud guard",
    )
    KNOWN_DEVICE_DAYS = Setting(
        180,
        _integer(0, 400),
        "days that a browser or app is remembered after it verified a number; 0 = never",
    )
    CALLS_PER_IP = Setting(
        "20/hour",
        _optional(_rate),
        "unverified calls from an address; IPv6 addresses are counted by /64, and by /48 at five "
        "times the rate; `None` = no limit",
    )
    CALLS_PER_PREFIX = Setting(
        "60/hour",
        _optional(_rate),
        "unverified calls to a range (a number without its last four digits); `None` = no limit",
    )
    CALLS_TOTAL = Setting(
        "1000/day",
        _optional(_rate),
        "calls of the whole site, counted in slices of a 24th of the period; `None` = no limit",
    )
    MAX_FAILURES = Setting(
        10,
        _integer(1, 1000),
        "wrong codes in a row for a number, over all verifications, until it is locked for an "
        "hour, 1 to 1000; each further one doubles the time, up to a day; a right code resets the "
        "count. Its owner and known devices have a count of their own",
    )
    FAILURES_PER_IP = Setting(
        "20/day",
        _optional(_rate),
        "wrong codes from an address in verifications that never verified",
    )
    CHALLENGE = Setting(
        None,
        _optional(_callable),
        "dotted path of a `callable(request) -> bool`, the site's CAPTCHA; required when the fraud "
        "guard has narrowed the range or the address, or a limit on addresses, ranges or the site "
        "is more than half used",
    )
    DEFAULT_REGION = Setting("RU", _region, "country of numbers written without a country code")
    ALLOWED_COUNTRIES = Setting(["RU"], _regions, 'ISO 3166 country codes, or `"*"` for all')
    NUMBER_TYPES = Setting(
        ["mobile", "fixed_line_or_mobile"],
        _number_types,
        "number types that can be called; all others are refused",
    )
    TOKEN_MAX_AGE = Setting(600, _integer(1, 86400), "seconds during which a token can be redeemed")
    USER_PHONE_FIELD = Setting(
        None,
        _optional(_name),
        "user model field that stores the verified number; never taken from the request",
    )
    DELIVERY_REPORT_SECRETS = Setting(
        [],
        _secrets,
        "secrets in the webhook URL of delivery reports, 32 characters or more; list two while "
        "you rotate them",
    )
    DELIVERY_REPORT_NETWORKS = Setting(
        [], _networks, "IP networks that may post delivery reports; empty = any"
    )
    TRUSTED_PROXIES = Setting(0, _integer(0, 16), "number of your own proxies in front of the site")
    TEST_NUMBERS = Setting(
        {},
        _test_numbers,
        "number → fixed code; these numbers are never called (for app store reviewers)",
    )
    RETENTION_DAYS = Setting(
        90,
        _integer(1, MOST_DAYS),
        "days after which `flashcall_prune` deletes verifications, calls and unused numbers",
    )
    FRAUD_GUARD = Setting(
        "deny",
        cast("Callable[[Any], str]", _choice("off", "record", "deny")),
        "`off`, `record` (only record decisions) or `deny` (also refuse calls)",
    )
    MAX_CALLS_IN_FLIGHT = Setting(
        4,
        _integer(1),
        "requests of one process that can wait for providers at the same time; further ones get "
        "503 `provider_unavailable` at once, and nothing is counted",
    )

    BREAKER_FAILURES = Setting(
        5,
        _integer(0),
        "failures of a backend in a row after which no calls go through it for `BREAKER_WAIT` "
        "seconds; 0 = never",
    )
    BREAKER_WAIT = Setting(
        30, _integer(1, 3600), "seconds until a single call tries a failed backend again"
    )
    DISPATCH = Setting(
        "inline",
        cast("Callable[[Any], str]", _choice("inline", "task")),
        "`inline`: the request places the call and waits for the provider; `task`: a worker of "
        "Django's task framework does",
    )
    TASK_BACKEND = Setting("default", _name, "backend in `TASKS` of the tasks that place calls")
    TASK_QUEUE = Setting("default", _name, "queue of the tasks that place calls")

    @property
    def given(self) -> Mapping[str, Any]:
        """The value of ``settings.FLASHCALL``."""
        value = getattr(settings, "FLASHCALL", {})
        # A dictionary is a mapping, and much faster to recognize.
        if not isinstance(value, (dict, Mapping)):
            raise ImproperlyConfigured("FLASHCALL must be a dictionary.")
        return value

    @classmethod
    def all(cls) -> dict[str, Setting[Any]]:
        """Return all settings by name."""
        return {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the name and error message of each invalid setting."""
        for name, setting in self.all().items():
            try:
                setting.parse(self.given.get(name, setting.default))
            except ImproperlyConfigured:
                continue  # a setting that this one depends on is invalid, and is reported itself
            except ValueError as error:
                yield name, str(error)

    def writes(self, name: str) -> bool:
        """Return True if the site has set a setting, and does not rely on its default."""
        return name in self.given

    def channels_with(self, code_length: int) -> tuple[str, ...]:
        """Return the channels whose codes have so many digits or more, preferred first."""
        return tuple(
            channel
            for channel in self.CHANNELS
            if channel != VOICE_CODE or code_length <= VOICE_CODE_LENGTH
        )

    def other_purpose(self, name: str, code_length: int) -> Purpose:
        """Return a purpose that is not in the settings, for the calls of another system.

        Raises:
            ValueError: the name is not valid, or is a key of ``PURPOSES``.
        """
        _check_purpose_name(name)
        if name in self.PURPOSES:
            raise ValueError(f"{name!r} is a key of PURPOSES; choose another name")
        return Purpose(
            name,
            code_length=code_length,
            code_ttl=self.CODE_TTL,
            max_attempts=self.MAX_ATTEMPTS,
            max_calls=1,
            token_max_age=self.TOKEN_MAX_AGE,
        )


conf = FlashcallSettings()
