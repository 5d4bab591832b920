from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_flashcall.conf import FlashcallSettings, Login, Rate, conf

BACKENDS = {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}}


def test_values_are_read_live(settings):
    assert conf.MAX_ATTEMPTS == 3
    settings.FLASHCALL = {**settings.FLASHCALL, "MAX_ATTEMPTS": 5}
    assert conf.MAX_ATTEMPTS == 5
    settings.FLASHCALL["MAX_ATTEMPTS"] = 4
    assert conf.MAX_ATTEMPTS == 4


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("CODE_LENGTH", 4),
        ("CODE_TTL", 300),
        ("MAX_ATTEMPTS", 3),
        ("MAX_CALLS", 3),
        ("COOLDOWN", 60),
        ("CALLS_PER_PHONE", Rate(8, timedelta(days=1))),
        ("CALLS_PER_IP", Rate(20, timedelta(hours=1))),
        ("CALLS_PER_PREFIX", Rate(60, timedelta(hours=1))),
        ("CALLS_TOTAL", Rate(1000, timedelta(days=1))),
        ("MAX_FAILURES", 10),
        ("FAILURES_PER_IP", Rate(20, timedelta(days=1))),
        ("CHALLENGE", None),
        ("DEFAULT_REGION", "RU"),
        ("ALLOWED_COUNTRIES", frozenset({"RU"})),
        ("NUMBER_TYPES", frozenset({"mobile", "fixed_line_or_mobile"})),
        ("TOKEN_MAX_AGE", 600),
        ("USER_PHONE_FIELD", None),
        ("DELIVERY_REPORT_SECRETS", ()),
        ("DELIVERY_REPORT_NETWORKS", ()),
        ("TRUSTED_PROXIES", 0),
        ("TEST_NUMBERS", {}),
        ("RETENTION_DAYS", 90),
        ("FRAUD_GUARD", "deny"),
        ("MAX_CALLS_IN_FLIGHT", 4),
        ("CHANNELS", {"flash_call": ("default",)}),
    ],
)
def test_defaults_are_those_of_the_contract(settings, name, default):
    settings.FLASHCALL = {"BACKENDS": BACKENDS}
    assert getattr(conf, name) == default


def test_every_setting_says_what_it_means():
    assert len(FlashcallSettings.all()) == 37
    for setting in FlashcallSettings.all().values():
        assert setting.meaning


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAX_ATTEMPTS", "3", "whole number"),
        ("MAX_ATTEMPTS", True, "whole number"),
        ("MAX_ATTEMPTS", 0, "from 1"),
        ("CODE_TTL", 601, "60 to 600"),
        ("CODE_TTL", 59, "60 to 600"),
        ("CODE_LENGTH", 5, "4, 6"),
        ("CODE_LENGTH", 4.0, "4, 6"),
        ("CALLS_PER_PHONE", "8", "rate"),
        ("CALLS_PER_PHONE", "0/day", "rate"),
        ("CALLS_PER_PHONE", None, "rate"),
        ("CALLS_TOTAL", 1000, "rate"),
        ("ALLOWED_COUNTRIES", ["XX"], "ISO 3166"),
        ("ALLOWED_COUNTRIES", "RU", "list"),
        ("NUMBER_TYPES", ["cellular"], "one of"),
        ("DEFAULT_REGION", "ru", "ISO 3166"),
        ("DELIVERY_REPORT_SECRETS", ["short"], "32 or more"),
        ("DELIVERY_REPORT_NETWORKS", ["10.0.0.1/8"], "host bits"),
        ("TRUSTED_PROXIES", -1, "0 to 16"),
        ("TEST_NUMBERS", {"89161234567": "1234"}, "E.164"),
        ("TEST_NUMBERS", {"+79161234567": "12345"}, "4 or 6"),
        ("FRAUD_GUARD", "on", "one of"),
        ("MAX_CALLS_IN_FLIGHT", 0, "1 or more"),
        ("CHALLENGE", "no.such.thing", "dotted path"),
        ("CHALLENGE", "django.VERSION", "not callable"),
        ("USER_PHONE_FIELD", "", "name"),
        ("BACKENDS", {}, "backend"),
        ("BACKENDS", {"default": "path"}, "dictionary"),
        ("BACKENDS", {"default": {"BACKEND": "a.b", "OPTION": {}}}, "unknown key 'OPTION'"),
        ("CHANNELS", {"sms": ["default"]}, "one of"),
        ("CHANNELS", {"flash_call": []}, "at least"),
        ("CHANNELS", {"flash_call": "default"}, "list"),
        ("LOGIN", "session", "dictionary"),
        ("LOGIN", {"ANSWER": None}, "ANSWER: it must be a name"),
        ("LOGIN", {"ANSWER": "django.VERSION"}, "ANSWER: 'django.VERSION' is not callable"),
        ("LOGIN", {"CREATE_USER": "nothing"}, "CREATE_USER: it must be the dotted path"),
        ("LOGIN", {"UNKNOWN_NUMBER": True}, "UNKNOWN_NUMBER: it must be one of"),
        ("LOGIN", {"UNKNOWN": "refuse"}, "unknown key 'UNKNOWN'"),
        ("REASSIGNED_NUMBERS", 0, "days"),
        ("REASSIGNED_NUMBERS", None, "days"),
        ("REASSIGNED_NUMBERS", True, "days"),
        ("REASSIGNED_NUMBERS", "move", "dotted path"),
        ("REAUTHENTICATE", True, "name"),
        ("REAUTHENTICATE", "..", "dotted path"),
        ("REASSIGNED_NUMBERS", 999_999, "days"),
        ("RETENTION_DAYS", 999_999, "from 1 to 36500"),
        ("DEFAULT_REGION", ["RU"], "ISO 3166"),
        ("ALLOWED_COUNTRIES", [["RU", "KZ"]], "ISO 3166"),
        ("TEST_NUMBERS", {"+7916123": "1234"}, "too short"),
        ("BACKENDS", {"eu/main": {"BACKEND": "a.B"}}, "letters, digits"),
        ("PURPOSES", {}, "at least"),
        ("PURPOSES", {"login": {"CODE_LENGHT": 6}}, "CODE_LENGHT"),
        ("PURPOSES", {"login": {"CODE_LENGTH": 5}}, "4, 6"),
        ("PURPOSES", {"log in": {}}, "letters"),
    ],
)
def test_a_wrong_value_is_never_used(settings, name, value, words):
    settings.FLASHCALL = {"BACKENDS": BACKENDS, name: value}
    with pytest.raises(ImproperlyConfigured, match=words) as caught:
        getattr(conf, name)
    assert name in str(caught.value)
    assert name in dict(conf.problems())


def test_secret_values_stay_out_of_the_messages(settings):
    settings.FLASHCALL = {
        "BACKENDS": BACKENDS,
        "DELIVERY_REPORT_SECRETS": ["tooshort"],
        "TEST_NUMBERS": {"+79161234567": "98765"},
    }
    messages = " ".join(message for _, message in conf.problems())
    assert "tooshort" not in messages
    assert "98765" not in messages


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("8/day", Rate(8, timedelta(days=1))),
        ("8/d", Rate(8, timedelta(days=1))),
        ("1/hour", Rate(1, timedelta(hours=1))),
        ("30/min", Rate(30, timedelta(minutes=1))),
        ("2/s", Rate(2, timedelta(seconds=1))),
        ("20/hrs", Rate(20, timedelta(hours=1))),
    ],
)
def test_rates_are_written_as_in_drf(settings, text, rate):
    settings.FLASHCALL = {"BACKENDS": BACKENDS, "CALLS_PER_IP": text}
    assert rate == conf.CALLS_PER_IP


@pytest.mark.parametrize("text", ["10000/month", "10/year", "10/", "0/day", "1.5/day", "１/day"])
def test_periods_that_are_none(settings, text):
    settings.FLASHCALL = {"BACKENDS": BACKENDS, "CALLS_TOTAL": text}
    with pytest.raises(ImproperlyConfigured, match='it must be a rate like "20/hour"'):
        _ = conf.CALLS_TOTAL


def test_login_exists_by_default_with_six_digits(settings):
    settings.FLASHCALL = {"BACKENDS": BACKENDS}
    lengths = {name: purpose.code_length for name, purpose in conf.PURPOSES.items()}
    assert lengths == {"signup": 4, "change": 4, "login": 6}
    assert Login(sign_up=False, create_user=None, answer=None) == conf.LOGIN


def test_a_purpose_overrides_settings_of_its_own(settings):
    settings.FLASHCALL = {
        "BACKENDS": BACKENDS,
        "MAX_CALLS": 2,
        "PURPOSES": {"signup": {}, "login": {"CODE_LENGTH": 6, "CODE_TTL": 120}},
    }
    login = conf.PURPOSES["login"]
    assert (login.code_length, login.code_ttl, login.max_calls) == (6, 120, 2)
    assert conf.PURPOSES["signup"].code_length == 4


def test_purposes_follow_each_change(settings):
    purposes = {"signup": {}}
    settings.FLASHCALL = {"BACKENDS": BACKENDS, "PURPOSES": purposes}
    assert conf.PURPOSES["signup"].max_calls == 3
    settings.FLASHCALL["MAX_CALLS"] = 1  # its default
    assert conf.PURPOSES["signup"].max_calls == 1
    purposes["signup"]["MAX_CALLS"] = 2
    assert conf.PURPOSES["signup"].max_calls == 2
    purposes["signup"]["MAX_CALLS"] = True  # is equal to 1
    settings.FLASHCALL["MAX_CALLS"] = 2
    with pytest.raises(ImproperlyConfigured, match="MAX_CALLS of 'signup'"):
        conf.PURPOSES  # noqa: B018
    purposes["login"] = purposes.pop("signup") | {"MAX_CALLS": 1}
    assert list(conf.PURPOSES) == ["login"]


def test_a_channel_with_fewer_digits_than_its_purpose_demands_is_not_offered(settings):
    settings.FLASHCALL = {
        "BACKENDS": BACKENDS,
        "CHANNELS": {"voice_code": ["default"], "flash_call": ["default"]},
        "PURPOSES": {"signup": {}, "login": {"CODE_LENGTH": 6}},
    }
    assert conf.channels_with(6) == ("flash_call",)
    assert conf.channels_with(4) == ("voice_code", "flash_call")


def test_flashcall_must_be_a_dictionary(settings):
    settings.FLASHCALL = ["BACKENDS"]
    with pytest.raises(ImproperlyConfigured, match="dictionary"):
        _ = conf.CODE_TTL
