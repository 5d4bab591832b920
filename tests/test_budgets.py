"""How many data statements the services need, whatever happened before."""

import contextlib

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.conf import conf
from django_flashcall.exceptions import WrongCode
from django_flashcall.protection import budget

from .test_services import wrong

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
IP = "203.0.113.9"


@pytest.fixture
def statements():
    """Run something and return its data statements, without BEGIN, SAVEPOINT and the like."""

    def run(function, *args, **kwargs):
        with CaptureQueriesContext(connection) as captured, contextlib.suppress(WrongCode):
            function(*args, **kwargs)
        data = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
        return [query["sql"] for query in captured if query["sql"].startswith(data)]

    return run


@pytest.fixture(autouse=True)
def calls_counted_before():
    """The rows that count calls exist; the first calls of an hour make them."""
    now = timezone.now()
    for at in (now + conf.CALLS_TOTAL.window / budget.SLICES, now):
        budget.make_rows(at)


def test_start(outbox, configure, statements):
    configure(COOLDOWN=0)
    assert 0 < len(statements(services.start, NUMBER, ip=IP)) <= 8
    assert 0 < len(statements(services.start, NUMBER, ip=IP)) <= 8


def test_resend(outbox, configure, statements):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER, ip=IP)
    assert 0 < len(statements(services.resend, verification, ip=IP)) <= 9


def test_right_code(outbox, statements):
    verification = services.start(NUMBER)
    assert 0 < len(statements(services.check, verification, outbox[0].code, ip=IP)) <= 7


def test_wrong_code(outbox, statements):
    verification = services.start(NUMBER)
    for _ in range(3):
        assert 0 < len(statements(services.check, verification, wrong(outbox[0].code), ip=IP)) <= 5


def test_status(api, outbox, statements):
    verification = services.start(NUMBER)
    assert len(statements(services.find, verification.pk)) == 1
    assert len(statements(api.get, f"/api/verifications/{verification.pk}/")) == 1
