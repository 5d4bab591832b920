"""Rule 7: no code and no password of the provider anywhere but where they are needed."""

import logging
import re
import traceback

import pytest
from django.apps import apps
from django.core import serializers
from django.db import connection, transaction
from django.views.debug import ExceptionReporter

from django_flashcall import services
from django_flashcall.backends import get_backend
from django_flashcall.exceptions import FlashcallError
from django_flashcall.models import Verification

from .fixtures import PROVIDER_PASSWORD

pytestmark = pytest.mark.django_db

# Endings of numbers that the simulator answers in every way there is (see its table).
ENDINGS = [9900, *range(9901, 9912), 9920, 9921, 9924, 9925, 9927, 9928, 9929, 9935]


@pytest.fixture
def six_digits(configure):
    """Codes long enough not to stand in a log or a dump by chance."""
    configure(CODE_LENGTH=6, COOLDOWN=0, CALLS_PER_IP=None, CALLS_PER_PREFIX=None)


def secrets_of(provider):
    codes = {request.json["message"]["data"]["text"] for request in provider.requests}
    assert codes
    return {PROVIDER_PASSWORD, *codes}


def shows(secret, text):
    """Whether a text has a secret as a word of its own: digits within a time or a UUID are none."""
    return re.search(rf"(?<![0-9a-f.]){re.escape(secret)}(?![0-9a-f])", text) is not None


def everything_stored():
    rows = [row for model in apps.get_models() for row in model._base_manager.all()]
    return serializers.serialize("json", rows)


@pytest.mark.parametrize("text", ["code 718293", '"718293"', "x=718293,", "718293"])
def test_a_secret_would_be_found(text):
    assert shows("718293", text)


def everything_of(record):
    """What a record contains, without times and numbers of processes: one could equal a code."""
    chance = {"created", "msecs", "relativeCreated", "process", "thread", "lineno"}
    return f"{record.getMessage()} { {k: v for k, v in vars(record).items() if k not in chance} }"


def test_the_database_and_the_log(api, provider, six_digits, caplog):
    caplog.set_level(logging.DEBUG, logger="")
    answers = []
    for ending in [4567, *ENDINGS]:
        response = api.post(
            "/api/verifications/", {"phone": f"+7916123{ending:04d}"}, format="json"
        )
        answers.append(response.content.decode())
    secrets = secrets_of(provider)
    logged = "\n".join(map(everything_of, caplog.records))
    stored = everything_stored()
    assert '"provider_message": "destAddr is not correct' in stored
    for secret in secrets:
        assert not shows(secret, stored)
        assert not shows(secret, logged)
        assert not shows(secret, "\n".join(answers))
    # What our own loggers say masks the number as well.
    ours = [r for r in caplog.records if r.name.startswith("django_flashcall")]
    assert ours
    for record in ours:
        assert "9161239" not in f"{record.getMessage()} {vars(record)}"


@pytest.mark.parametrize("ending", [9901, 9906, 9908, 9910, 9900, 9924])
def test_tracebacks_and_error_pages(provider, six_digits, rf, ending):
    with pytest.raises(FlashcallError) as caught:
        services.start(f"+7916123{ending}")
    shown = "".join(
        traceback.TracebackException(
            caught.type, caught.value, caught.tb, capture_locals=True
        ).format()
    )
    page = ExceptionReporter(rf.get("/"), caught.type, caught.value, caught.tb).get_traceback_html()
    for secret in secrets_of(provider):
        assert not shows(secret, shown)
        assert not shows(secret, page)


def test_the_code_of_a_test_number(configure):
    code = "718293"
    configure(TEST_NUMBERS={"+79161234567": code})

    def broken(execute, *args):
        raise LookupError

    with pytest.raises(LookupError) as caught, connection.execute_wrapper(broken):
        services.start("+79161234567")
    told = caught.type, caught.value, caught.tb.tb_next  # the first frame is this test
    trace = traceback.TracebackException(*told, capture_locals=True).format()
    assert not shows(code, "".join(trace))


def test_a_wrong_guess_does_not_show_the_code_or_the_guess(provider, six_digits, rf, settings):
    verification = services.start("+79161234567")
    code = provider.last_call("+79161234567").code
    guess = str(int(code[0]) ^ 1) + code[1:]
    try:
        services.check(verification, guess)
    except FlashcallError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = "".join(
        line
        for frame in frames.stack
        if "django_flashcall" in frame.filename
        for line in frame.locals.values()
    )
    assert not shows(code, shown)
    assert not shows(guess, shown)


@pytest.mark.django_db(transaction=True)
def test_the_code_of_another_system(provider, rf):
    with pytest.raises(RuntimeError) as caught, transaction.atomic():
        services.place_call("+79161234567", "718293", purpose="other")
    assert "718293" not in reported(caught, rf.post("/"), since="services")


def test_a_number_that_the_provider_repeats(configure, caplog):
    from .test_services import ScriptedBackend, TemporaryFailure

    configure(BACKENDS={"default": {"BACKEND": "tests.test_services.ScriptedBackend"}})
    ScriptedBackend.answers = [TemporaryFailure("the queue of 79161234567 is full")]
    with pytest.raises(FlashcallError):
        services.start("+79161234567")
    assert "the queue of *** is full" in caplog.text
    assert "79161234567" not in caplog.text
    services.forget(Verification.objects.get().phone)
    assert "9161234567" not in everything_stored()


def broken_by(kind):
    """Make the first statement with these words fail, as a bug would."""

    def execute(execute, sql, *args):
        if kind in sql:
            raise TypeError("a bug")
        return execute(sql, *args)

    return connection.execute_wrapper(execute)


def reported(caught, request, since):
    """What a traceback and Django's error report say, from the first frame of a file on."""
    frames = caught.tb
    while since not in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    told = caught.type, caught.value, frames
    trace = traceback.TracebackException(*told, capture_locals=True).format()
    return "".join(trace) + ExceptionReporter(request, *told).get_traceback_html()


SENT = {"code": "718293", "password": "Leaky-Secret-77", "phone_token": "t0ken:of:me"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [("verifications/{id}/check/", "UPDATE"), ("signup/", "INSERT"), ("login/", "FROM")],
)
@pytest.mark.parametrize("debug", [True, False])
def test_an_error_in_the_api(api, provider, six_digits, rf, settings, path, kind, debug):
    settings.DEBUG = debug
    purpose = "login" if "login" in path else "signup"
    verification = services.start("+79161234567", purpose=purpose)
    sent = dict(SENT)
    if "check" not in path:
        code = provider.last_call("+79161234567").code
        sent["phone_token"] = str(services.check(verification, code))
    path = "/api/" + path.format(id=verification.pk)
    with broken_by(kind), pytest.raises(TypeError) as caught:
        api.post(path, {**sent, "username": "ann"}, format="json")
    # The client of the test has them too.
    shown = reported(caught, rf.get("/"), since="rest_framework/views.py")
    assert "a bug" in shown
    for secret in sent.values():
        assert not shows(secret, shown)


def test_an_error_of_the_signup_page(client, provider, six_digits, rf):
    client.post("/phone/", {"phone": "+79161234567"})
    code = provider.last_call("+79161234567").code
    client.post(f"/phone/{Verification.objects.get().pk}/", {"code": code})
    sent = {"username": "ann", "password": SENT["password"]}
    with broken_by("INSERT"), pytest.raises(TypeError) as caught:
        client.post("/phone/signup/", sent)
    shown = reported(caught, rf.get("/"), since="django_flashcall/pages/views.py")
    assert "a bug" in shown
    assert not shows(SENT["password"], shown)


def test_representations(provider, six_digits):
    backend = get_backend("default")
    verification = services.start("+79161234567")
    shown = repr([backend, vars(backend), verification, vars(verification.newest_call)])
    for secret in secrets_of(provider):
        assert not shows(secret, shown)


def test_models_mask_the_number(outbox):
    verification = services.start("+79161234567")
    for row in (verification, verification.phone, verification.newest_call):
        assert "916123" not in str(row)
        assert "916123" not in repr(row)
