"""What is deleted when, and that a forgotten number is nowhere."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models.signals import pre_delete
from django.utils import timezone

from django_flashcall import services
from django_flashcall.backends import Report
from django_flashcall.exceptions import TooManyCalls
from django_flashcall.models import (
    Attempt,
    Call,
    DeliveryReport,
    GuardDecision,
    Phone,
    Rule,
    Verification,
)
from django_flashcall.privacy import retention

from .test_services import wrong

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


def everything():
    rows = [row for model in apps.get_models() for row in model._base_manager.all()]
    return serializers.serialize("json", rows)


def verified(outbox, number=NUMBER, owner=None):
    verification = services.start(number, ip="203.0.113.9")
    with pytest.raises(services_wrong()):
        services.check(verification, wrong(outbox[-1].code), ip="203.0.113.9")
    reference = verification.newest_call.reference.hex
    services.record_report(Report(backend="default", outcome="delivered", reference=reference))
    token = services.check(verification, outbox[-1].code, ip="203.0.113.9")
    services.redeem(token, user=owner)
    return verification


def services_wrong():
    from django_flashcall.exceptions import WrongCode

    return WrongCode


def age(days):
    """Move everything that is stored into the past."""
    then = timezone.now() - timedelta(days=days)
    for model in (Phone, Verification, Call, Attempt, DeliveryReport):
        model.objects.update(created_at=then)
    Phone.objects.update(last_called_at=then)


def prune(*arguments):
    said = StringIO()
    call_command("flashcall_prune", *arguments, stdout=said)
    return said.getvalue()


def test_forget(outbox):
    ann = get_user_model().objects.create_user("ann")
    verified(outbox, owner=ann)
    verified(outbox, "+79161234568")
    Rule.objects.create(action="deny", prefix=NUMBER, note="asked not to be called")
    phone = Phone.objects.get(number=NUMBER)
    retention.forget(phone)
    left = everything()
    assert "9161234567" not in left
    assert "9161234568" in left
    assert {m.objects.count() for m in (Phone, Verification, Call, DeliveryReport)} == {1}
    assert get_user_model().objects.filter(pk=ann.pk).exists()
    assert services.start(NUMBER).status == "pending"


def test_prune_keeps_what_is_recent(outbox):
    verified(outbox)
    age(89)
    assert "no rows are older than 90 days" in prune()
    assert Verification.objects.count() == 1


def test_prune(outbox, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    ann = get_user_model().objects.create_user("ann")
    verified(outbox, owner=ann)
    for last in range(5):
        verified(outbox, f"+7916123400{last}")
    age(91)
    fresh = services.start("+79160000000", ip="198.51.100.1")
    said = prune("--dry-run")
    assert "6 verifications" in said
    assert "5 phones" in said
    assert Verification.objects.count() == 7
    prune()
    assert list(Verification.objects.all()) == [fresh]
    assert Call.objects.count() == 1
    assert not Attempt.objects.exists()
    assert not DeliveryReport.objects.exists()
    # The number of an account stays, without the addresses it was verified from.
    assert set(Phone.objects.values_list("number", "owner")) == {
        (NUMBER, ann.pk),
        ("+79160000000", None),
    }
    assert "203.0.113.9" not in everything()


def test_expired_codes_are_erased(outbox, monkeypatch):
    """Nobody who lets a code expire comes back to end the verification."""
    monkeypatch.setattr(retention, "BATCH", 2)
    expired = [services.start(f"+7916123400{n}").newest_call for n in range(5)]
    now = timezone.now()
    Call.objects.update(created_at=now - timedelta(seconds=661))  # three batches of one moment
    pending = services.start(NUMBER).newest_call
    assert not Call.objects.filter(code_digest="").exists()
    prune()
    assert set(Call.objects.filter(code_digest="")) == set(expired)
    assert services.check(pending.verification, outbox[-1].code)


def test_days(outbox):
    verified(outbox)
    age(8)
    prune("--days", "9")
    assert Verification.objects.exists()
    prune("--days", "7")
    assert not Verification.objects.exists()


def test_wrong_codes_count_for_a_month_however_short_the_retention_is(outbox, configure):
    configure(RETENTION_DAYS=1)
    with pytest.raises(services_wrong()):
        services.check(services.start(NUMBER), wrong(outbox[-1].code))
    age(29)
    prune()
    assert not Verification.objects.exists()
    assert Phone.objects.get().failures == 1
    age(31)
    prune()
    assert not Phone.objects.exists()


def test_a_short_retention_deletes_no_call_that_the_limit_of_the_site_counts(
    outbox, configure, time_machine
):
    configure(RETENTION_DAYS=1, CALLS_TOTAL="1/day")
    time_machine.move_to("2026-03-02 12:40:00+00:00", tick=False)
    services.start(NUMBER)
    time_machine.move_to("2026-03-03 12:30:00+00:00")
    prune()
    with pytest.raises(TooManyCalls):
        services.start("+79161234568")


def test_a_narrowing_outlives_a_short_retention(configure):
    configure(RETENTION_DAYS=1)
    figures = {"denied": True, "unverified": 9, "honest": 0, "allowed": 5}
    decision = GuardDecision.objects.create(scope="prefix", value="+7916123", **figures)
    for days, is_kept in (1.5, True), (2.5, False):
        GuardDecision.objects.update(last_at=timezone.now() - timedelta(days=days))
        prune()
        assert GuardDecision.objects.filter(pk=decision.pk).exists() is is_kept


def test_negative_days(outbox):
    services.start(NUMBER)
    with pytest.raises(CommandError, match="must be 0 or more"):
        prune("--days=-1")
    assert Verification.objects.exists()


@pytest.mark.parametrize("field", ["waits_until", "last_called_at"])
def test_a_number_that_is_waiting_or_called_stays(outbox, field):
    services.start(NUMBER)
    age(91)
    Phone.objects.update(**{field: timezone.now()})
    prune()
    assert Phone.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_number_that_is_started_while_it_is_deleted(outbox):
    services.start(NUMBER)
    age(100)
    Verification.objects.all().delete()
    threads = []

    def start(**kwargs):
        def run():
            services.start(NUMBER)
            connections.close_all()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        threads[-1].join()

    pre_delete.connect(start, Phone)
    try:
        retention.prune(timezone.now() - timedelta(days=90))
    finally:
        pre_delete.disconnect(start, Phone)
        for thread in threads:
            thread.join()
    assert len(threads) == 1
    assert Verification.objects.get().phone == Phone.objects.get()
    assert len(outbox) == 2


@pytest.mark.parametrize("name", ["claim", "reserve"])
def test_a_number_erased_between_two_looks_is_called_as_a_new_one(outbox, monkeypatch, name):
    services.start(NUMBER)
    from django_flashcall.protection import limits

    if name == "claim":  # only a number that is free is claimed
        Phone.objects.update(last_called_at=None)
    function = getattr(limits, name)

    def erased_first(phone, *args):
        retention.forget(Phone.objects.get(pk=phone.pk))
        return function(phone, *args)

    monkeypatch.setattr(limits, name, erased_first)
    assert services.start(NUMBER).status == "pending"
    assert Verification.objects.get().phone == Phone.objects.get()


def test_a_verification_erased_between_two_looks_is_not_found(outbox, api):
    from django_flashcall.exceptions import VerificationNotFound

    verification = services.start(NUMBER)
    retention.forget(Phone.objects.get())
    for act in (
        lambda: services.check(verification, "1234"),
        lambda: services.resend(verification),
    ):
        with pytest.raises(VerificationNotFound):
            act()
