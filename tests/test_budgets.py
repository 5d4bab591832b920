"""How many data statements the services need, whatever happened before."""

import contextlib

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_flashcall import services
from django_flashcall.exceptions import WrongCode
from django_flashcall.models import CallCount

from .test_services import wrong

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


@pytest.fixture
def statements():
    """Run something and return its data statements, without BEGIN, SAVEPOINT and the like."""

    def run(function, *args, **kwargs):
        with CaptureQueriesContext(connection) as captured, contextlib.suppress(WrongCode):
            function(*args, **kwargs)
        data = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
        return [query["sql"] for query in captured if query["sql"].startswith(data)]

    return run


def test_start(outbox, configure, statements):
    configure(COOLDOWN=0)
    # The first call of an hour makes the row that counts it.
    assert 0 < len(statements(services.start, NUMBER, ip="203.0.113.9")) <= 10
    CallCount.objects.bulk_create(
        CallCount(begins_at=CallCount.objects.get().begins_at, part=part)
        for part in set(range(8)) - {CallCount.objects.get().part}
    )
    assert 0 < len(statements(services.start, NUMBER, ip="203.0.113.9")) <= 9


def test_resend(outbox, configure, statements):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER)
    assert 0 < len(statements(services.resend, verification)) <= 9


def test_right_code(outbox, statements):
    verification = services.start(NUMBER)
    assert 0 < len(statements(services.check, verification, outbox[0].code)) <= 7


def test_wrong_code(outbox, statements):
    verification = services.start(NUMBER)
    for _ in range(3):
        assert 0 < len(statements(services.check, verification, wrong(outbox[0].code))) <= 5


def test_status(api, outbox, statements):
    verification = services.start(NUMBER)
    assert len(statements(services.find, verification.pk)) == 1
    assert len(statements(api.get, f"/api/verifications/{verification.pk}/")) == 1
