"""The documentation: it builds, its code runs, and it names what there is, no more and no less."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
import unittest
import zlib
from pathlib import Path
from types import ModuleType

import django.conf.global_settings
import pytest
import rest_framework.settings
from django.contrib import admin
from django.core.checks import ERROR
from django.db import ConnectionHandler
from django.test import override_settings

from django_flashcall import checks, pytest_plugin, signals
from django_flashcall.conf import FlashcallSettings
from django_flashcall.protection import devices

from .documents import DOCS, ROOT, blocks, pages

sys.path.insert(0, str(DOCS / "_ext"))
import flashcall_reference as reference

OTHERS_PACKAGES = {
    "allauth",
    "celery",
    "dj_rest_auth",
    "django_recaptcha",
    "django_rq",
    "djoser",
    "gunicorn",
    "ninja",
    "opentelemetry",
    "prometheus_client",
    "pyotp",
}
"""Packages that a site may have beside ours: where one is missing, its example is compiled only."""

NEEDS_AN_APP = {
    "people/models.py",
    "mysite/schedule.py",
    "mysite/celery.py",
    "mysite/celery_tasks.py",
    "mysite/ninja_urls.py",
    "gunicorn.conf.py",
}
"""Examples that need an app, a queue or a worker.

`test_tasks`, `test_metrics` and `test_ninja` run some.
"""

WORDS_IN_CAPITALS = {
    "ANSWER", "BACKEND", "BACKENDZ", "CALLS", "CELERY", "CONN_MAX_AGE", "CREATE_USER", "DELETE",
    "DIRS", "DJANGO_SETTINGS_MODULE", "ENGINE", "ERROR", "ERRORS", "FLASHCALL", "NAME",
    "PHONE_STATE", "READ_CALL_LOG",
    "READ_PHONE_STATE",
    "FLASHINGCALL", "GET", "HMAC", "IMMEDIATE", "INFO", "OPTIONS", "PATH_INFO", "POST",
    "REQUIRED_FIELDS",
    "REGISTER_SERIALIZER", "SERIALIZERS", "SESSION_LOGIN", "USER_CREATE_PASSWORD_RETYPE",
    "USER_DETAILS_SERIALIZER", "USE_JWT",
    "FLASH_CALL", "STEERING", "UNKNOWN_NUMBER", "UPDATE", "USERNAME_FIELD", "VOICE_CODE", "WARNING",
}  # fmt: skip
"""Words in capitals that are no setting."""

PYTHON = [block for page in pages() for block in blocks(page) if block.language == "python"]
PYTHON = [block for block in PYTHON if block.path.name != "tutorial.md"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO")}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, folder],
        capture_output=True,
        text=True,
        env=kept,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def described(built):
    """What the built pages describe, by kind: the inventory that other projects link by."""
    _, body = (built / "objects.inv").read_bytes().split(b"using zlib.\n", 1)
    found = {}
    for line in zlib.decompress(body).decode().splitlines():
        name, kind = re.match(r"(\S+) (\S+) ", line).groups()
        found.setdefault(kind, set()).add(name)
    return found


def test_everything_of_the_code_is_described(described):
    assert described["std:confval"] == set(FlashcallSettings.all())
    assert described["std:system-check"] == ids_in_the_source()
    assert described["std:error-code"] == set(reference.errors())
    assert described["std:signal"] == {
        name for name, value in vars(signals).items() if isinstance(value, signals.Signal)
    }
    commands = {path.stem for path in (reference.PACKAGE / "management/commands").glob("f*.py")}
    assert described["std:management-command"] == commands


def ids_in_the_source():
    """Every id of a check, wherever it stands in the package."""
    found = set()
    for path in reference.PACKAGE.rglob("*.py"):
        found |= set(re.findall(r"django_flashcall(?:_\w+)?\.[EW]\d{3}", path.read_text()))
    return found


def test_every_check_has_words():
    for check in reference.checks():
        assert re.search("[a-z]{3}", check.message + check.hint), check
        assert check.id in ids_in_the_source()
    assert set(checks.IDS_OF_SETTINGS) <= set(FlashcallSettings.all())


def text():
    return "\n".join(path.read_text() for path in [*pages(), ROOT / "README.md"])


def test_nothing_is_named_that_there_is_not():
    said = text()
    assert set(re.findall(r"django_flashcall(?:_\w+)?\.[EW]\d{3}", said)) <= ids_in_the_source()
    fixtures = {name for name in vars(pytest_plugin) if name.startswith("flashcall_")}
    known = set(reference.commands()) | fixtures | {devices.COOKIE}
    assert set(re.findall(r"(?:manage\.py |`)(flashcall_(?!reference)\w+)", said)) <= known
    for name in re.findall(r"\bsignals\.(?!md)(\w+)", said):
        assert hasattr(signals, name), name
    for path in re.findall(r"`(django_flashcall(?:\.\w+)+)`", said):
        assert exists(path), path


def exists(path):
    """Whether a dotted path leads to a module, or to a name in one."""
    if re.fullmatch(r"django_flashcall\.[EW]\d{3}", path) or path == "django_flashcall.urls":
        return True
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return hasattr(found, name) or importlib.util.find_spec(path) is not None


def test_every_setting_that_is_named_exists():
    named = set(re.findall(r"[`\"]([A-Z][A-Z_]{3,})[`\"]", text()))
    ours = set(FlashcallSettings.all())
    djangos = set(dir(django.conf.global_settings)) | set(rest_framework.settings.DEFAULTS)
    prefixes = ("ACCOUNT_", "RECAPTCHA_", "FLASHCALL_", "OTEL_", "TWO_FACTOR_")
    others = {name for name in named if name.startswith(prefixes)}
    assert named - ours - djangos - others - {"ATOMIC_REQUESTS"} <= WORDS_IN_CAPITALS


def test_the_table_of_the_api_names_every_error_code():
    table = (DOCS / "reference" / "api.md").read_text()
    assert set(re.findall(r"\{error\}`(\w+)`", table)) == set(reference.errors())
    for code, classes in reference.errors().items():
        status = classes[0].status_code
        rows = [line for line in table.splitlines() if f"{{error}}`{code}`" in line]
        assert any(f"| {status} |" in row for row in rows), code


@pytest.mark.parametrize("block", PYTHON, ids=str)
@pytest.mark.django_db(transaction=True)
def test_the_code_runs(block, outbox, monkeypatch, settings, request):
    code = compile(block.text, str(block), "exec")
    if block.caption in NEEDS_AN_APP:
        return
    for name in ("URL", "LOGIN", "PASSWORD", "VOICE_LOGIN", "VOICE_PASSWORD"):
        monkeypatch.setenv(f"FLASHCALL_{name}", "https://provider.example/send")
    monkeypatch.setenv("FLASHCALL_REPORT_SECRET", "a" * 43)
    backends = settings.FLASHCALL["BACKENDS"]
    names = {"__name__": "example", "FLASHCALL": {"BACKENDS": dict(backends)}}
    names |= {"REST_AUTH": {}, "DJOSER": {}}
    # The guide to django-otp exchanges it.
    monkeypatch.setattr(admin.site, "__class__", admin.site.__class__)
    if "os.environ" in block.text:
        names["os"] = os
    if "INSTALLED_APPS" in block.text:
        names |= {"INSTALLED_APPS": [], "MIDDLEWARE": []}
    if "BASE_DIR" in block.text:
        names["BASE_DIR"] = Path()
    try:
        exec(code, names)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in OTHERS_PACKAGES:
            raise
        return
    if block.caption.startswith("settings"):
        assert_settings_are_right(names["FLASHCALL"])
    if "DATABASES" in names:
        monkeypatch.setattr(checks, "connections", ConnectionHandler(names["DATABASES"]))
        assert "django_flashcall.W007" not in {message.id for message in checks.check_deployment()}
    for name, case in names.items():
        if name.startswith("test_"):
            case(*map(request.getfixturevalue, inspect.signature(case).parameters))
        if isinstance(case, type) and issubclass(case, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
            if case.__module__ == "example":
                assert result.testsRun
            assert result.wasSuccessful(), result.errors + result.failures


def assert_settings_are_right(given):
    # Classes of the site's own, which are named and not there, are left out.
    given = {key: value for key, value in given.items() if key not in ("CHALLENGE",)}
    given.pop("USER_PHONE_FIELD", None)
    given["BACKENDS"] = {
        alias: entry
        for alias, entry in given["BACKENDS"].items()
        if not entry["BACKEND"].startswith("mysite.")
    }
    if not given["BACKENDS"]:
        return
    with override_settings(FLASHCALL=given):
        found = [message for message in checks.check_settings() if message.level >= ERROR]
    assert not found


@pytest.mark.django_db(transaction=True)
def test_the_codes_of_another_system(outbox, rf, django_user_model):
    from django_flashcall.models import Verification

    (block,) = [block for block in PYTHON if block.caption == "people/second_factor.py"]
    names = {}
    exec(compile(block.text, str(block), "exec"), names)
    user = django_user_model.objects.create_user("anna")
    user.phone, user.totp_secret = "+79161234567", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    assert "last 6 digits" in names["call"](user, rf.get("/"))
    assert "just called" in names["call"](user, rf.get("/"))
    code = outbox[0].code
    assert not names["accept"](user, "000000" if code != "000000" else "000001")
    assert names["accept"](user, code)
    assert Verification.objects.get().status == "redeemed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bound", [False, True])
def test_a_second_step_after_the_password(outbox, configure, django_user_model, bound):
    from django_flashcall import services
    from django_flashcall.models import Phone

    (block,) = [block for block in PYTHON if "def is_the_owner" in block.text]
    names = {}
    exec(compile(block.text, str(block), "exec"), names)
    configure(PURPOSES={"second_step": {}}, COOLDOWN=0)
    anna = django_user_model.objects.create_user("anna")
    own = Phone.objects.create(number="+79161234567", owner=anna)

    def token(number):
        verification = services.start(number, purpose="second_step", user=anna if bound else None)
        return services.check(verification, outbox[-1].code)

    assert not names["is_the_owner"](token("+79161234568"), anna)
    right = token(own.number)
    assert names["is_the_owner"](right, anna)
    assert not names["is_the_owner"](right, anna)  # a token serves once
    assert services.phone_of(anna) == own


SITE = """
import json
from django.conf import settings

settings.configure(
    SECRET_KEY="a key",
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "people",
        "django_flashcall",
    ],
    AUTH_USER_MODEL="people.User",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    ROOT_URLCONF="django_flashcall.rest_framework.urls",
    ALLOWED_HOSTS=["*"],
    FLASHCALL={
        "BACKENDS": {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}},
        "USER_PHONE_FIELD": "phone",
    },
)
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django_flashcall.backends.locmem import outbox

call_command("check")
call_command("migrate", run_syncdb=True, verbosity=0)

def post(path, **given):
    return Client().post(path, given, content_type="application/json").json()

started = post("/verifications/", phone="8 916 123-45-67")
token = post(f"/verifications/{started['id']}/check/", code=outbox[-1].code)["token"]
print(post("/signup/", phone_token=token, password="correct horse 9"))
print(get_user_model().objects.get().get_username())
"""


def test_the_number_as_username(tmp_path):
    """`how-to/user-model.md`: the model of that page in a site of its own."""
    (block,) = [block for block in PYTHON if block.caption == "people/models.py"]
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(block.text)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DJANGO")}
    done = subprocess.run(
        [sys.executable, "-c", SITE],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("{'id': 1, 'phone': '+79161234567'}\n+79161234567\n"), done.stderr


HTML = [block for page in pages() for block in blocks(page) if block.language == "html"]


@pytest.mark.parametrize("block", HTML, ids=str)
@pytest.mark.django_db
def test_the_templates_work(block, client, settings, tmp_path):
    """Each is put where its caption says, and the page shows it within the app's own."""
    path = tmp_path / block.caption
    path.parent.mkdir(parents=True)
    path.write_text(block.text)
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path / "templates"]}]
    page = client.get("/phone/").content.decode()
    assert re.search("<(p|div)[^>]*>.*</(p|div)>", block.text)[0] in page
    assert "Call me" in page


@pytest.mark.django_db(transaction=True)
def test_the_page_that_asks_for_the_password_again(
    client, configure, django_user_model, settings, tmp_path, monkeypatch
):
    """`how-to/login.md`: the number changes only after the password was entered."""
    from django.urls import path

    from django_flashcall.models import Phone

    from . import urls

    (block,) = [block for block in PYTHON if block.caption == "people/views.py"]
    views = ModuleType("people_views")
    exec(compile(block.text, str(block), "exec"), vars(views))
    monkeypatch.setitem(sys.modules, "people_views", views)
    template = tmp_path / "people" / "password.html"
    template.parent.mkdir()
    template.write_text("{{ form }}")
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path]}]
    site = ModuleType("site_urls")
    site.urlpatterns = [*urls.urlpatterns, path("password/", views.PasswordAgainView.as_view())]
    settings.ROOT_URLCONF = site
    configure(REAUTHENTICATE="people_views.reauthenticate")
    ann = django_user_model.objects.create_user("ann", password="right")
    django_user_model.objects.create_user("bob", password="right")
    Phone.objects.create(number="+79161234567", owner=ann)
    client.force_login(ann)
    asked = client.post("/phone/number/remove/")
    assert asked.url == "/password/?next=%2Fphone%2Fnumber%2Fremove%2F"
    for name, password in (("ann", "wrong"), ("bob", "right")):
        answer = client.post(asked.url, {"username": name, "password": password})
        assert answer.status_code == 200
        assert client.post("/phone/number/remove/").url == asked.url
    answer = client.post(asked.url, {"username": "ann", "password": "right"})
    assert answer.url == "/phone/number/remove/"
    assert client.post("/phone/number/remove/").url == "/phone/number/"
    assert Phone.objects.get().owner is None
