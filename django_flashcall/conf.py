"""The settings of the app: the dictionary ``FLASHCALL``, read live, each value judged when read.

``from django_flashcall.conf import conf`` and read ``conf.MAX_ATTEMPTS``. Nothing is kept, so that
``override_settings`` works. A wrong value is found by ``manage.py check`` (`problems` feeds
`django_flashcall.checks`) and raises `ImproperlyConfigured` wherever it is read: none is ever used.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast, overload

import phonenumbers
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

__all__ = ["FLASH_CALL", "VOICE_CODE", "conf"]

T = TypeVar("T")

FLASH_CALL = "flash_call"
VOICE_CODE = "voice_code"
CHANNELS = (FLASH_CALL, VOICE_CODE)

VOICE_CODE_LENGTH = 4
"""Digits of a spoken code (FlashingCall API, «Результат запроса VoiceCode»)."""

CODE_LENGTHS = (4, 6)
"""Digits that a flash call can carry (FlashingCall API, «Результат запроса FlashingCall»)."""

SECRET_LENGTH = 32
"""Characters of a secret in a URL that nobody guesses."""

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
    """One entry of ``BACKENDS``."""

    path: str
    options: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a verification is for, with the settings that apply to it; times are in seconds."""

    name: str
    code_length: int
    code_ttl: int
    max_attempts: int
    max_calls: int
    token_max_age: int


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
        raise ValueError(f"it must be a list, not {value!r}")
    return tuple(value)


def _rate(value: Any) -> Rate:
    # As DRF reads a rate: the first letter of the period decides.
    match = (
        re.fullmatch(r"([1-9]\d{0,8})/([smhd])[a-z]*", value) if isinstance(value, str) else None
    )
    if match is None:
        raise ValueError(f'it must be a rate such as "20/hour", not {value!r}')
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    return Rate(int(match[1]), timedelta(seconds=seconds))


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"it must be a name, not {value!r}")
    return value


def _callable(value: Any) -> Callable[..., Any]:
    try:
        found = import_string(_name(value))
    except ImportError as error:
        raise ValueError(f"it must be the dotted path of a callable: {error}") from None
    if not callable(found):
        raise ValueError(f"{value!r} is not callable")
    return cast("Callable[..., Any]", found)


def _region(value: Any) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'it must be an ISO 3166 code of a country such as "RU", not {value!r}')
    return cast(str, value)


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
        # The value itself stays out of the message: it is a secret.
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
        found[alias] = BackendConfig(entry["BACKEND"], dict(options))
    if not found:
        raise ValueError("it must name a backend at least")
    return found


def _channels(value: Any) -> dict[str, tuple[str, ...]]:
    found = {}
    for channel, aliases in _mapping(value).items():
        _choice(*CHANNELS)(channel)
        found[channel] = tuple(_name(alias) for alias in _sequence(aliases))
        if not found[channel]:
            raise ValueError(f"{channel!r} must name a backend at least")
    if not found:
        raise ValueError("it must name a channel at least")
    return found


def _test_numbers(value: Any) -> dict[str, str]:
    found = _mapping(value)
    for number, code in found.items():
        # The code stays out of the message: codes are never shown.
        if not re.fullmatch(r"\+[1-9]\d{6,14}", number):
            raise ValueError(f"{number!r} must be a number in E.164 with the plus")
        if not isinstance(code, str) or not re.fullmatch(r"[0-9]{4}|[0-9]{6}", code):
            raise ValueError(f"the code of {number!r} must be a string of 4 or 6 digits")
    return dict(found)


class Setting(Generic[T]):
    """One key of ``FLASHCALL``: its default, how its value is judged, and what it means."""

    def __init__(self, default: Any, parse: Callable[[Any], T], meaning: str) -> None:
        self.default = default
        self.parse = parse
        self.meaning = meaning

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...

    @overload
    def __get__(self, instance: FlashcallSettings, owner: type) -> T: ...

    def __get__(self, instance: FlashcallSettings | None, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        try:
            return self.parse(instance.given.get(self.name, self.default))
        except ValueError as error:
            raise ImproperlyConfigured(f"FLASHCALL[{self.name!r}]: {error}.") from None


_OVERRIDES = {
    "CODE_LENGTH": "code_length",
    "CODE_TTL": "code_ttl",
    "MAX_ATTEMPTS": "max_attempts",
    "MAX_CALLS": "max_calls",
    "TOKEN_MAX_AGE": "token_max_age",
}


def _purposes(value: Any) -> dict[str, Purpose]:
    found = {}
    for name, overrides in _mapping(value).items():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
            raise ValueError(f"{name!r} must be 1 to 32 letters, digits, dashes and underscores")
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
        raise ValueError("it must name a purpose at least")
    return found


class FlashcallSettings:
    """Typed access to ``settings.FLASHCALL``; every read raises `ImproperlyConfigured` if wrong."""

    BACKENDS = Setting(
        {}, _backends, "alias → `BACKEND` (dotted path) and `OPTIONS` (keyword arguments); required"
    )
    CHANNELS = Setting(
        {FLASH_CALL: ["default"]}, _channels, "channel → aliases of backends; the first is used"
    )
    CODE_LENGTH = Setting(
        4, cast("Callable[[Any], int]", _choice(*CODE_LENGTHS)), "digits of a flash call: 4 or 6"
    )
    PURPOSES = Setting(
        {"signup": {}},
        _purposes,
        f"what a verification may be for → overrides of {', '.join(_OVERRIDES)}; a channel with "
        "fewer digits than its purpose demands is not offered",
    )
    CODE_TTL = Setting(300, _integer(60, 600), "seconds that a verification lives, 60 to 600")
    MAX_ATTEMPTS = Setting(
        3, _integer(1, 10), "evaluated guesses per verification, whatever is resent"
    )
    MAX_CALLS = Setting(3, _integer(1, 10), "calls per verification")
    COOLDOWN = Setting(60, _integer(0, 86400), "seconds between two calls to one number; 0 = none")
    CALLS_PER_PHONE = Setting(
        "8/day",
        _rate,
        "calls to a number over all verifications; at most half of them, rounded up, "
        "from one address",
    )
    CALLS_PER_IP = Setting(
        "20/hour",
        _optional(_rate),
        "calls from an address that nobody verified; IPv6 counts by /64, and at five times the "
        "rate by /48; `None` = no limit",
    )
    CALLS_PER_PREFIX = Setting(
        "60/hour",
        _optional(_rate),
        "likewise, by the number without its last four digits: a range being pumped",
    )
    CALLS_TOTAL = Setting("1000/day", _optional(_rate), "the site's whole budget; `None` = none")
    MAX_FAILURES = Setting(
        10,
        _integer(1),
        "wrong codes in a row for a number, over all verifications, before it waits an hour, "
        "doubled by each further one up to a day; success clears it",
    )
    FAILURES_PER_IP = Setting(
        "20/day",
        _optional(_rate),
        "wrong codes from an address in verifications that never verified",
    )
    CHALLENGE = Setting(
        None,
        _optional(_callable),
        "dotted path of a `callable(request) -> bool`, the site's CAPTCHA, asked where a wide "
        "limit is more than half used",
    )
    DEFAULT_REGION = Setting("RU", _region, "for numbers written without a country code")
    ALLOWED_COUNTRIES = Setting(["RU"], _regions, 'ISO codes, or `"*"`')
    NUMBER_TYPES = Setting(
        ["mobile", "fixed_line_or_mobile"],
        _number_types,
        "types of number that are called; all others are refused",
    )
    TOKEN_MAX_AGE = Setting(600, _integer(1, 86400), "seconds in which a token can be redeemed")
    USER_PHONE_FIELD = Setting(
        None,
        _optional(_name),
        "field of the user model that a redeemed number fills; never taken from the request",
    )
    DELIVERY_REPORT_SECRETS = Setting(
        [],
        _secrets,
        "secrets of the address that delivery reports are posted to, 32 characters or more; two "
        "can live at once, for rotation",
    )
    DELIVERY_REPORT_NETWORKS = Setting(
        [], _networks, "networks that may post delivery reports; empty = any"
    )
    TRUSTED_PROXIES = Setting(0, _integer(0, 16), "how many proxies of yours stand before the site")
    TEST_NUMBERS = Setting(
        {}, _test_numbers, "number → fixed code, never called (for app-store reviewers)"
    )
    RETENTION_DAYS = Setting(90, _integer(1), "days that `flashcall_prune` keeps")
    FRAUD_GUARD = Setting(
        "deny",
        cast("Callable[[Any], str]", _choice("off", "record", "deny")),
        "`off`, `record` or `deny`",
    )
    MAX_CALLS_IN_FLIGHT = Setting(
        4,
        _integer(1),
        "requests of one process that wait for providers at a time; beyond that, a start or resend "
        "is answered 503 `provider_unavailable` at once and nothing is spent",
    )

    @property
    def given(self) -> Mapping[str, Any]:
        """What the site wrote."""
        value = getattr(settings, "FLASHCALL", {})
        if not isinstance(value, Mapping):
            raise ImproperlyConfigured("FLASHCALL must be a dictionary.")
        return value

    @classmethod
    def all(cls) -> dict[str, Setting[Any]]:
        """Every setting there is, by name."""
        return {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield name and message of every setting whose value is wrong."""
        for name, setting in self.all().items():
            try:
                setting.parse(self.given.get(name, setting.default))
            except ImproperlyConfigured:
                continue  # another setting, which this one is made of, is the wrong one
            except ValueError as error:
                yield name, str(error)

    def channels_for(self, purpose: Purpose) -> tuple[str, ...]:
        """Channels that carry as many digits as the purpose demands, the preferred one first."""
        return tuple(
            channel
            for channel in self.CHANNELS
            if channel != VOICE_CODE or purpose.code_length <= VOICE_CODE_LENGTH
        )


conf = FlashcallSettings()
