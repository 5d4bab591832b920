import ast
import importlib

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import ConnectionHandler
from django.test import override_settings
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from django_flashcall import checks
from django_flashcall.rest_framework import urls

LOCMEM = {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}
HTTP = "django_flashcall.backends.flashingcall.FlashingCallBackend"
SECRET = "x7" * 16
OPTIONS = {"url": "https://provider.example/send", "login": "site", "password": "s3cr3t-pw"}


def found(settings, *, deploy=False, **keys):
    settings.FLASHCALL = {"BACKENDS": {"default": LOCMEM}, **keys}
    tags = ["django_flashcall"]
    messages = run_checks(tags=tags, include_deployment_checks=deploy)
    return [message for message in messages if "allauth" not in message.id]


def http(**options):
    return {"default": {"BACKEND": HTTP, "OPTIONS": {**OPTIONS, **options}}}


@pytest.fixture
def connect(monkeypatch):
    """Let the site have another database."""

    def connect(engine="sqlite3", **options):
        database = {"ENGINE": f"django.db.backends.{engine}", "NAME": "site", "OPTIONS": options}
        monkeypatch.setattr(checks, "connections", ConnectionHandler({"default": database}))

    return connect


def test_right_settings_are_silent(settings, connect):
    connect("postgresql")
    assert found(settings) == []
    assert found(settings, deploy=True, BACKENDS=http(), CALLS_TOTAL="500/day") == []


@pytest.mark.parametrize(
    ("keys", "id"),
    [
        ({"MAX_ATEMPTS": 3}, "E002"),
        ({"BACKENDS": {}}, "E003"),
        ({"BACKENDS": {"default": {"BACKEND": "no.such.Backend"}}}, "E004"),
        ({"BACKENDS": {"default": {"BACKEND": "django.http.HttpResponse"}}}, "E004"),
        ({"BACKENDS": {"default": {**LOCMEM, "OPTIONS": {"pasword": "x"}}}}, "E005"),
        ({"BACKENDS": http(pasword="x")}, "E005"),
        ({"BACKENDS": {"default": {"BACKEND": HTTP}}}, "E006"),
        ({"BACKENDS": http(url="")}, "E006"),
        ({"BACKENDS": http(login="")}, "E006"),
        ({"BACKENDS": http(password="")}, "E006"),
        ({"BACKENDS": http(ttl=6)}, "E007"),
        ({"BACKENDS": http(ttl=-1)}, "E007"),
        ({"BACKENDS": http(ttl="1")}, "E007"),
        ({"BACKENDS": http(verify=False)}, "E008"),
        ({"BACKENDS": http(url="ftp://provider.example/")}, "E008"),
        ({"CODE_LENGTH": 5}, "E009"),
        ({"CHANNELS": {"flash_call": ["other"]}}, "E010"),
        ({"CHANNELS": {"sms": ["default"]}}, "E010"),
        (
            {
                "CHANNELS": {"voice_code": ["default"]},
                "PURPOSES": {"login": {"CODE_LENGTH": 6}},
            },
            "E011",
        ),
        (
            {"TEST_NUMBERS": {"+79161234567": "4321"}, "PURPOSES": {"login": {}}, "CODE_LENGTH": 6},
            "E020",
        ),
        ({"LOGIN": {"UNKNOWN_NUMBER": "maybe"}}, "E013"),
        ({"LOGIN": {"ANSWER": "no.such.answer"}}, "E013"),
        ({"LOGIN": {"UNKOWN_NUMBER": "refuse"}}, "E013"),
        ({"CODE_TTL": 601}, "E012"),
        ({"MAX_ATTEMPTS": 0}, "E013"),
        ({"PURPOSES": {"login": {"TTL": 1}}}, "E014"),
        ({"DELIVERY_REPORT_SECRETS": ["abc"]}, "E015"),
        ({"USER_PHONE_FIELD": "no_such_field"}, "E017"),
        ({"USER_PHONE_FIELD": "verified_phone"}, "E017"),
        ({"USER_PHONE_FIELD": "groups"}, "E017"),
        ({"DISPATCH": "task", "TASK_BACKEND": "nowhere"}, "E019"),
        ({"DISPATCH": "celery"}, "E013"),
    ],
)
def test_what_is_wrong_is_found_with_an_id_and_a_hint(settings, keys, id):
    messages = found(settings, **keys)
    assert {message.id for message in messages} == {f"django_flashcall.{id}"}
    for message in messages:
        assert message.hint
        assert message.is_serious()
        assert OPTIONS["password"] not in f"{message.msg} {message.hint}"


def test_flashcall_that_is_no_dictionary(settings):
    settings.FLASHCALL = "yes"
    (message,) = run_checks(tags=["django_flashcall"])
    assert message.id == "django_flashcall.E001"


def test_each_missing_option_is_named(settings):
    messages = found(settings, BACKENDS={"default": {"BACKEND": HTTP}})
    assert [name for name in ("url", "login", "password") if name in str(messages)] == [
        "url",
        "login",
        "password",
    ]


def test_a_typo_gets_a_suggestion(settings):
    (message,) = found(settings, MAX_ATEMPTS=3)
    assert "MAX_ATTEMPTS" in message.hint


@pytest.mark.parametrize("url", ["http://provider.example/", "http://10.0.0.1:8080/send"])
def test_a_plain_url_of_a_foreign_host_is_found_before_deployment(settings, url):
    assert found(settings, BACKENDS=http(url=url)) == []
    ids = [m.id for m in found(settings, BACKENDS=http(url=url), deploy=True)]
    assert "django_flashcall.E016" in ids


@pytest.mark.parametrize("url", ["http://127.0.0.1:8800/", "http://localhost/", "http://[::1]/"])
def test_a_plain_url_of_this_machine_is_no_matter(settings, url):
    ids = [m.id for m in found(settings, BACKENDS=http(url=url), deploy=True)]
    assert "django_flashcall.E016" not in ids


def test_test_numbers_are_warned_of_before_deployment(settings):
    numbers = {"+79161234567": "4321"}
    assert found(settings, TEST_NUMBERS=numbers) == []
    messages = found(settings, TEST_NUMBERS=numbers, deploy=True)
    assert "django_flashcall.W002" in [message.id for message in messages]
    assert "4321" not in str(messages)


def ids(settings, **keys):
    return {message.id for message in found(settings, deploy=True, **keys)}


def test_the_budget_asks_for_an_explicit_value(settings):
    assert "django_flashcall.W003" in ids(settings)
    assert "django_flashcall.W003" not in ids(settings, CALLS_TOTAL="1000/day")
    assert "django_flashcall.W003" not in ids(settings, CALLS_TOTAL=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECURE_PROXY_SSL_HEADER", ("HTTP_X", "https")), ("USE_X_FORWARDED_HOST", True)],
)
def test_a_proxy_that_was_forgotten(settings, name, value):
    assert "django_flashcall.W004" not in ids(settings)
    setattr(settings, name, value)
    assert "django_flashcall.W004" in ids(settings)
    assert "django_flashcall.W004" not in ids(settings, TRUSTED_PROXIES=1)


def test_logging_in_with_four_digits(settings):
    four, six = {"login": {}}, {"login": {"CODE_LENGTH": 6}}
    assert "django_flashcall.W005" in ids(settings, PURPOSES=four)
    assert "django_flashcall.W005" not in ids(settings, PURPOSES=six)
    assert "django_flashcall.W005" not in ids(settings, PURPOSES=four, CODE_LENGTH=6)


@pytest.mark.parametrize(
    "keys",
    [{"CHANNELS": {"voice_code": ["default"]}}, {"TEST_NUMBERS": {"+79161234567": "4321"}}],
)
def test_a_default_purpose_that_cannot_be_used_is_no_error(settings, keys):
    assert found(settings, **keys) == []
    assert "django_flashcall.W008" in ids(settings, **keys)
    assert "django_flashcall.W008" not in ids(settings, PURPOSES={"signup": {}}, **keys)
    written = ids(settings, PURPOSES={"login": {"CODE_LENGTH": 6}}, **keys)
    assert "django_flashcall.W008" not in written  # it is an error then
    assert written & {"django_flashcall.E011", "django_flashcall.E020"}
    assert "django_flashcall.W008" not in ids(settings)


SIGN_UP = {"UNKNOWN_NUMBER": "sign_up"}


@pytest.mark.parametrize("missing", [["first_name"], ["email", "last_login"]])
def test_accounts_that_login_cannot_create(settings, monkeypatch, missing):
    model = get_user_model()
    assert found(settings, LOGIN=SIGN_UP) == []
    monkeypatch.setattr(model, "REQUIRED_FIELDS", ["email", *missing])
    for name in missing:
        monkeypatch.setattr(model._meta.get_field(name), "blank", False)
    (message,) = found(settings, LOGIN=SIGN_UP)
    assert message.id == "django_flashcall.E021"
    assert missing[0] in message.msg
    assert found(settings) == []
    own = {**SIGN_UP, "CREATE_USER": "django_flashcall.phones.parse"}
    assert found(settings, LOGIN=own) == []


@pytest.mark.parametrize(
    ("name", "id", "missing"),
    [("drf_token", "E023", "rest_framework.authtoken"), ("jwt", "E024", "simplejwt")],
)
def test_tokens_of_a_login_that_nothing_makes(settings, monkeypatch, name, id, missing):
    login = {"LOGIN": {"ANSWER": f"django_flashcall.rest_framework.answers.{name}"}}
    assert not found(settings, **login)
    monkeypatch.setattr("django_flashcall.checks.apps.is_installed", lambda name: False)
    monkeypatch.setattr("django_flashcall.checks.find_spec", lambda name: None)
    (message,) = found(settings, **login)
    assert message.id == f"django_flashcall.{id}"
    assert missing in message.msg


@pytest.mark.parametrize("given", [SECRET, {SECRET: True}, SECRET.encode()])
def test_a_secret_in_the_wrong_type_is_not_shown(settings, given):
    (message,) = found(settings, DELIVERY_REPORT_SECRETS=given)
    assert message.id == "django_flashcall.E015"
    assert "must be a list" in message.msg
    assert SECRET not in f"{message.msg} {message.hint}"


def test_the_api_tells_at_once_that_rest_framework_is_not_installed(settings, monkeypatch):
    without = [app for app in settings.INSTALLED_APPS if app != "rest_framework"]
    with override_settings(INSTALLED_APPS=without):
        with pytest.raises(ImproperlyConfigured, match="Add 'rest_framework' to INSTALLED_APPS"):
            importlib.reload(urls)
        # A site that answers in JSON only needs no templates.
        monkeypatch.setattr(APIView, "renderer_classes", [JSONRenderer])
        importlib.reload(urls)


def test_a_number_that_its_account_needs_cannot_be_moved(settings):
    for keys in ({}, {"USER_PHONE_FIELD": "last_name"}):
        assert found(settings, REASSIGNED_NUMBERS=365, **keys) == []
    name = {"USER_PHONE_FIELD": "username"}
    assert [m.id for m in found(settings, REASSIGNED_NUMBERS=365, **name)] == [
        "django_flashcall.E022"
    ]
    assert found(settings, **name) == []


def test_accounts_of_which_only_one_can_be_without_a_value(settings, monkeypatch):
    email = get_user_model()._meta.get_field("email")
    monkeypatch.setattr(email, "unique", True)
    (message,) = found(settings, LOGIN=SIGN_UP)
    assert message.id == "django_flashcall.E021"


def test_an_email_address_is_not_made_up_for_a_username(settings, monkeypatch):
    model = get_user_model()
    monkeypatch.setattr(model, "USERNAME_FIELD", "email")
    monkeypatch.setattr(model, "REQUIRED_FIELDS", [])
    assert [m.id for m in found(settings, LOGIN=SIGN_UP)] == ["django_flashcall.E021"]
    assert found(settings, LOGIN=SIGN_UP, USER_PHONE_FIELD="email") == []


WAITING = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL",
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**WAITING, "timeout": 5},
        {**WAITING, "transaction_mode": "DEFERRED"},
        {**WAITING, "init_command": "PRAGMA synchronous=NORMAL"},
        *({name: WAITING[name] for name in WAITING if name != missing} for missing in WAITING),
    ],
)
def test_sqlite_whose_requests_fail_instead_of_waiting(settings, connect, options):
    connect(**options)
    assert found(settings) == []
    (message,) = (m for m in found(settings, deploy=True) if m.id == "django_flashcall.W007")
    # What it says to paste is what it asks for.
    pasted = ast.literal_eval("{" + message.hint.removeprefix("Set in DATABASES: ") + "}")
    assert pasted == {"OPTIONS": WAITING}


@pytest.mark.parametrize(
    "options",
    [
        WAITING,
        {**WAITING, "timeout": 30, "transaction_mode": "exclusive"},
        {**WAITING, "init_command": "PRAGMA synchronous=NORMAL;pragma journal_mode = wal;"},
    ],
)
def test_sqlite_whose_requests_wait(settings, connect, options):
    connect(**options)
    assert "django_flashcall.W007" not in ids(settings)


def test_other_databases_need_no_options(settings, connect):
    connect("postgresql")
    assert "django_flashcall.W007" not in ids(settings)
