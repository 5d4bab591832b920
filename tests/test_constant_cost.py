"""What a start and a check cost does not grow with what the site did before.

On PostgreSQL, which says how many rows a statement read.
"""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_flashcall import services
from django_flashcall.models import Attempt, Call, CallCount, Phone, Verification
from django_flashcall.protection import fraud_guard

pytestmark = pytest.mark.django_db

IP = "2001:db8:1:1::1"
NETWORK, WIDE_NETWORK = "2001:db8:1:1::/64", "2001:db8:1::/48"
PREFIX = "+7916123"
CALLS = 4_000


@pytest.fixture
def busy(configure):
    """An address and a range that thousands of people verify from since today.

    All calls of the days before are of others. A database that expects to find some of them soon
    would read all of these.
    """
    configure(COOLDOWN=0, CALLS_PER_PHONE="20/day", FAILURES_PER_IP="20/day")
    now = timezone.now()
    numbers = [f"{PREFIX}{n:04d}" for n in range(CALLS)]
    numbers += [f"+79{n:05d}4567" for n in range(2 * CALLS)]
    phones = [Phone(number=number) for number in numbers]
    Phone.objects.bulk_create(phones)
    verifications, calls, attempts = [], [], []
    for n, phone in enumerate(phones):
        is_busy = n < CALLS
        at = now - (timedelta(seconds=n) if is_busy else timedelta(days=2, minutes=n))
        verification = Verification(
            phone=phone,
            purpose="signup",
            channel="flash_call",
            state="redeemed",
            code_length=4,
            max_attempts=3,
            attempts_left=1,
            calls_left=2,
            created_at=at,
            expires_at=at + timedelta(minutes=5),
            verified_at=at,
            redeemed_at=at,
        )
        verifications.append(verification)
        source = {"network": f"10.0.{n // 250}.{n % 250}", "wide_network": "", "created_at": at}
        if is_busy:
            source |= {"network": NETWORK, "wide_network": WIDE_NETWORK}
        prefix = phone.number[:-4]
        call = Call(verification=verification, phone=phone, prefix=prefix, **source)
        call.status, call.progress = "delivered", Call.Progress.COMPLETED
        calls.append(call)
        attempts.append(Attempt(verification=verification, counts=False, **source))
    for rows in (verifications, calls, attempts):
        type(rows[0]).objects.bulk_create(rows)
    hours = [now - timedelta(hours=hours) for hours in range(2 * 24)]
    CallCount.objects.bulk_create(CallCount(begins_at=at, part=1, calls=10) for at in hours)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def rows_read(function, *args, **kwargs):
    """Run something; return its statements, each with the most rows that a step of it read."""
    found = []

    def explain(execute, sql, params, many, context):
        if sql.startswith(("SELECT", "(SELECT", "WITH", "UPDATE", "DELETE")):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, params)
                (plans,) = cursor.fetchone()
                transaction.set_rollback(True)  # it is executed again
            found.append((most_rows(plans[0]["Plan"]), sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        function(*args, **kwargs)
    assert found
    return found


def most_rows(plan):
    read = plan["Actual Rows"] + sum(
        rows for name, rows in plan.items() if name.startswith("Rows Removed by")
    )
    return max(read * plan["Actual Loops"], *map(most_rows, plan.get("Plans", [])), 0)


def test_start_and_resend(outbox, busy):
    phone = f"{PREFIX}0007"
    for function, argument in (
        (services.start, phone),
        (services.resend, services.start(phone, ip=IP)),
    ):
        for rows, sql in rows_read(function, argument, ip=IP):
            assert rows <= 5 * fraud_guard.SAMPLE, sql


def test_check(outbox, busy):
    verification = services.start(f"{PREFIX}0007", ip=IP)
    for rows, sql in rows_read(services.check, verification, outbox[-1].code, ip=IP):
        assert rows <= 20, sql


def test_status(outbox, busy):
    verification = services.start(f"{PREFIX}0007", ip=IP)
    for rows, sql in rows_read(services.find, verification.pk):
        assert rows <= 20, sql
