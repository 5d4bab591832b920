"""How many data statements the services need, whatever happened before."""

import contextlib

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.backends import Report
from django_flashcall.conf import conf
from django_flashcall.exceptions import WrongCode
from django_flashcall.models import Phone
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
        return [query["sql"] for query in captured if query["sql"].lstrip("(").startswith(data)]

    return run


@pytest.fixture(autouse=True)
def calls_counted_before():
    """The rows that count calls exist; the first calls of an hour make them."""
    now = timezone.now()
    for at in (now + conf.CALLS_TOTAL.window / budget.SLICES, now):
        budget.make_rows(at)


AT_ONCE = connection.vendor == "postgresql"
"""Whether several writes are a single statement."""


def test_start(outbox, statements):
    for _new_then_known in range(2):
        assert len(statements(services.start, NUMBER, ip=IP)) == (4 if AT_ONCE else 7)
        Phone.objects.update(last_called_at=None)


@pytest.mark.parametrize("seconds", [0, 9])
def test_start_with_a_short_cooldown(outbox, configure, statements, seconds):
    configure(COOLDOWN=seconds)
    for _new_then_known in range(2):
        assert len(statements(services.start, NUMBER, ip=IP)) == 8
        Phone.objects.update(last_called_at=None)


def test_start_with_workers(outbox, configure, statements):
    configure(DISPATCH="task")
    found = statements(services.start, NUMBER, ip=IP)
    # Besides what the queue itself stores.
    assert len([sql for sql in found if "django_flashcall_" in sql]) == 8


def test_resend(outbox, statements):
    verification = services.start(NUMBER, ip=IP)
    Phone.objects.update(last_called_at=None)
    assert len(statements(services.resend, verification, ip=IP)) == 8


def test_right_code(outbox, statements):
    verification = services.start(NUMBER)
    assert len(statements(services.check, verification, outbox[0].code, ip=IP)) == (
        2 if AT_ONCE else 5
    )


def test_wrong_code(outbox, statements):
    verification = services.start(NUMBER)
    allowed = 2 if AT_ONCE else 4
    for left in (2, 1, 0):
        found = statements(services.check, verification, wrong(outbox[0].code), ip=IP)
        assert len(found) == allowed + (not left)  # the last one erases the codes


def test_codes_over_the_api(api, outbox, statements):
    path = f"/api/verifications/{services.start(NUMBER).pk}/check/"
    found = statements(api.post, path, {"code": wrong(outbox[0].code)}, format="json")
    assert len(found) == (2 if AT_ONCE else 4)
    # One more, because there was a wrong code.
    found = statements(api.post, path, {"code": outbox[0].code}, format="json")
    assert len(found) == (3 if AT_ONCE else 6)


def test_report(outbox, statements):
    call = services.start(NUMBER).newest_call
    for outcome in ("sent", "delivered"):
        report = Report(backend="default", outcome=outcome, reference=call.reference.hex)
        assert len(statements(services.record_report, report)) == (2 if AT_ONCE else 3)


def test_status(api, outbox, statements):
    verification = services.start(NUMBER)
    assert len(statements(services.find, verification.pk)) == 1
    assert len(statements(api.get, f"/api/verifications/{verification.pk}/")) == 1
