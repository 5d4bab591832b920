"""A code whose check waits for another transaction, on PostgreSQL, which tells who waits.

The statement that spends the attempt reads the call as it was before that transaction.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections, transaction
from django.db.models import F

from django_flashcall import services
from django_flashcall.exceptions import FlashcallError, TooManyAttempts, WrongCode
from django_flashcall.models import Attempt, Call, Phone, Verification
from django_flashcall.verification import calls, codes

from .test_services import wrong

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+79161234567"


def check_while(change, verification, code):
    """Check a code while the transaction of `change` holds the verification; return the error."""

    def check():
        try:
            services.check(services.find(verification.pk), code)
        except FlashcallError as error:
            return type(error)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            change()
            checking = pool.submit(check)
            with connection.cursor() as cursor:
                while not is_waiting(cursor):
                    assert not checking.done()
        return checking.result()


def is_waiting(cursor):
    """Return True if another connection waits for a lock."""
    cursor.execute("SELECT pg_stat_clear_snapshot()")
    cursor.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return cursor.fetchone()[0] == 1


def insert_call(verification, status, code):
    call = Call.objects.earliest("pk")
    call.pk, call.reference, call.status = None, uuid.uuid4(), status
    call.code_digest = codes.digest(code, verification.pk)
    call.save(force_insert=True)


@pytest.mark.parametrize("typed", ["old", "new"])
def test_a_code_that_waits_for_another_call_is_compared_with_that_one(outbox, typed):
    verification = services.start(NUMBER)
    typed_codes = {"old": outbox[-1].code, "new": wrong(outbox[-1].code)}

    def call_again():  # as a resend does
        Verification.objects.update(calls_left=F("calls_left") - 1)
        insert_call(verification, "sent", typed_codes["new"])

    error = check_while(call_again, verification, typed_codes[typed])
    assert error is (WrongCode if typed == "old" else None)
    assert Verification.objects.get().attempts_left == 2


def test_a_code_that_waits_for_the_one_that_the_provider_chose(outbox):
    verification = services.start(NUMBER)
    call = Call.objects.get()
    Call.objects.update(code_digest="")  # the provider has not responded

    def store_the_code():
        assert calls.hold(verification)
        Call.objects.update(code_digest=call.code_digest)

    assert check_while(store_the_code, verification, outbox[-1].code) is None
    assert Verification.objects.get().attempts_left == 2


@pytest.mark.parametrize("is_resend", [False, True])
def test_a_code_that_waits_for_fail_over_is_compared_with_that_call(outbox, is_resend):
    verification, code = services.start(NUMBER), outbox[-1].code
    others = [f"{(int(code) + step) % 10**4:04d}" for step in (2, 3)]
    if is_resend:
        insert_call(verification, "rejected", others[0])
    else:
        Call.objects.update(status="rejected")

    def call_through_another_backend():
        assert calls.hold(verification)
        insert_call(verification, "queued", others[1])

    error = check_while(call_through_another_backend, verification, code)
    assert error is WrongCode
    assert Phone.objects.get().failures == Attempt.objects.count() == 1


def test_a_code_that_waits_for_the_one_that_locks_the_number_is_refused(outbox, configure):
    configure(MAX_FAILURES=1)
    verification, code = services.start(NUMBER), outbox[-1].code

    def enter_a_wrong_one():
        with pytest.raises(WrongCode):
            services.check(services.find(verification.pk), wrong(code), durable=False)

    assert check_while(enter_a_wrong_one, verification, code) is TooManyAttempts
    assert Verification.objects.get().attempts_left == 2  # that of the second was given back
