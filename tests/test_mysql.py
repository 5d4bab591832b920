"""What MySQL and MariaDB do otherwise, kept right without a server of theirs.

They assign the columns of an ``UPDATE`` from left to right, and conditions see what was assigned
before them (MySQL Reference Manual, "UPDATE Statement"); the standard's see the row as it was.
"""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.backends import Report
from django_flashcall.protection import wrong_codes

pytestmark = pytest.mark.django_db


def assigned(queries, table):
    """Columns of the one conditional UPDATE of a table, in the order of their assignment."""
    updates = [q["sql"] for q in queries if q["sql"].startswith(f'UPDATE "{table}"')]
    (update,) = [sql for sql in updates if "CASE WHEN" in sql]
    return re.findall(r'(?:SET|,) "(\w+)" = ', update)


def test_waits_are_chosen_before_the_count_grows(outbox):
    phone = services.start("+79161234567").phone
    with CaptureQueriesContext(connection) as queries:
        wrong_codes.count_write(phone, timezone.now()).execute()
    assert assigned(queries, "django_flashcall_phone") == ["waits_until", "failures"]


def test_reports_move_the_call_last(outbox):
    call = services.start("+79161234567").newest_call
    services.record_report(Report("default", "delivered", reference=call.reference.hex))
    with CaptureQueriesContext(connection) as queries:
        services.record_report(
            Report("default", "undelivered", reference=call.reference.hex, error_code="busy")
        )
    columns = assigned(queries, "django_flashcall_call")
    assert columns[-1] == "status"
    assert {"error_code", "provider_code"} < set(columns)
