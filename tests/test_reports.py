"""Delivery reports as the service records them: once, forwards only, in any order."""

import contextlib
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from django_flashcall import services, signals
from django_flashcall.backends import BaseBackend, Receipt, Report
from django_flashcall.delivery import reports
from django_flashcall.delivery.reports import FORWARDS
from django_flashcall.exceptions import (
    FlashcallError,
    NumberRejected,
    ProviderUnavailable,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.models import Call, DeliveryReport, Verification

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
OUTCOMES = ("sent", "undelivered", "delivered")


def report(call, outcome, **values):
    return Report(backend="default", outcome=outcome, reference=call.reference.hex, **values)


@pytest.fixture
def call(outbox):
    return services.start(NUMBER).newest_call


@pytest.mark.parametrize("earlier", Call.Status.values)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_call_moves_forwards_only(call, earlier, outcome):
    Call.objects.update(status=earlier)
    services.record_report(report(call, outcome))
    call.refresh_from_db()
    assert call.status == max(earlier, outcome, key=FORWARDS.index)


@pytest.mark.parametrize("order", list(itertools.permutations(OUTCOMES)))
def test_any_order_ends_in_the_same_state(call, order):
    facts = {
        "sent": {"mcc_mnc": "25001", "price": Decimal("0.3")},
        "undelivered": {"error_code": "busy", "provider_code": 16},
        "delivered": {"mcc_mnc": "25002"},
    }
    for outcome in (*order, *order):
        services.record_report(report(call, outcome, **facts[outcome]))
    call.refresh_from_db()
    assert (call.status, call.error_code, call.provider_code) == ("delivered", "", None)
    assert (call.mcc_mnc, call.price) == ("25002", Decimal("0.3"))
    assert call.reports.count() == 3


class ReportsFirst(BaseBackend):
    """A provider whose report comes before its response."""

    outcome: Exception | None = None

    def place_call(self, request):
        services.record_report(
            Report(
                backend="default",
                outcome="undelivered",
                reference=request.reference,
                error_code="busy",
                provider_code=16,
            )
        )
        if self.outcome is not None:
            raise self.outcome
        return Receipt("1")


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        UnknownOutcome("No response."),
        TemporaryFailure("A proxy's page.", may_have_been_placed=True),
        NumberRejected("Wrong number.", code=8),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_a_response_after_the_report_changes_nothing_that_it_said(configure, monkeypatch, outcome):
    configure(BACKENDS={"default": {"BACKEND": f"{__name__}.ReportsFirst"}})
    monkeypatch.setattr(ReportsFirst, "outcome", outcome)
    with contextlib.suppress(FlashcallError):
        services.start(NUMBER)
    call = Call.objects.get()
    assert (call.status, call.error_code, call.provider_code) == ("undelivered", "busy", 16)
    assert call.answered_at is not None
    assert call.provider_message == (str(outcome) if outcome else "")


def test_why_a_call_did_not_arrive(call):
    found = services.record_report(
        report(call, "undelivered", error_code="unknown", provider_code=13)
    )
    assert found == call
    assert (found.status, found.error_code, found.provider_code) == ("undelivered", "unknown", 13)


def test_a_report_verifies_nobody_and_gives_nothing_back(call):
    before = Verification.objects.values().get()
    services.record_report(report(call, "delivered"))
    assert Verification.objects.values().get() == before


def test_by_the_providers_identifier_for_its_backend_only(call):
    mine = Report(backend="default", outcome="delivered", provider_id=call.provider_id)
    other = Report(backend="other", outcome="delivered", provider_id=call.provider_id)
    assert services.record_report(other) is None
    assert services.record_report(mine) == call


@pytest.mark.parametrize("reference", ["", "4711", "0" * 32, "не наш"])
def test_an_unknown_call(call, reference):
    unknown = Report(backend="default", outcome="sent", provider_id="4711", reference=reference)
    assert services.record_report(unknown) is None
    assert not DeliveryReport.objects.exists()


def test_a_report_may_come_before_the_answer(provider, monkeypatch):
    """The row of the call is committed before the provider is asked."""

    def deliver(sender, instance, created, **kwargs):
        if created:
            services.record_report(report(instance, "delivered", mcc_mnc="25001"))

    from django.db.models.signals import post_save

    post_save.connect(deliver, sender=Call, weak=False)
    try:
        call = services.start(NUMBER).newest_call
    finally:
        assert post_save.disconnect(deliver, sender=Call)
    assert call.status == "delivered"
    call.refresh_from_db()
    assert (call.status, call.mcc_mnc) == ("delivered", "25001")
    assert call.provider_id == provider.last_call(NUMBER).mt_num


def test_a_rejected_call_that_arrived(provider):
    with pytest.raises(ProviderUnavailable):
        services.start("+79161239901")
    call = Call.objects.get()
    assert call.status == "rejected"
    services.record_report(report(call, "delivered"))
    call.refresh_from_db()
    assert call.status == "delivered"
    assert call.verification.status == "failed"


def test_each_outcome_is_told_once(call, django_capture_on_commit_callbacks):
    told = []

    def receive(call, report, **kwargs):
        told.append((call.status, report.outcome))

    signals.delivery_reported.connect(receive)
    for outcome in ("delivered", "sent", "delivered"):
        with django_capture_on_commit_callbacks(execute=True):
            services.record_report(report(call, outcome))
    assert told == [("delivered", "delivered"), ("delivered", "sent")]


def test_statements(call):
    with CaptureQueriesContext(connection) as captured:
        services.record_report(report(call, "delivered", mcc_mnc="25001", price=Decimal(1)))
    data = ("SELECT", "INSERT", "UPDATE", "DELETE")
    assert 0 < sum(query["sql"].startswith(data) for query in captured) <= 4


@pytest.mark.django_db(transaction=True)
def test_a_thousand_reports_for_a_hundred_calls(outbox, configure):
    """Shuffled, doubled and in parallel they end as they would in order."""
    configure(COOLDOWN=0, CALLS_PER_PREFIX=None, CALLS_PER_IP=None)
    calls = [services.start(f"+7916{n:07d}").newest_call for n in range(1000100, 1000200)]
    reports = []
    for place, call in enumerate(calls):
        failed = {"error_code": "busy", "provider_code": 16}
        reports.append(report(call, "sent", mcc_mnc="25001"))
        reports.append(report(call, "undelivered", **failed))
        if place % 2:
            reports.append(report(call, "delivered", price=Decimal("0.5")))
    reports = [report for report in reports for _ in range(4)]
    assert len(reports) == 1000
    random.Random(1).shuffle(reports)

    def share(items):
        try:
            for item in items:
                services.record_report(item)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(share, [reports[n::8] for n in range(8)]))
    for place, call in enumerate(calls):
        call.refresh_from_db()
        shown = (call.status, call.error_code, call.mcc_mnc, call.price)
        if place % 2:
            assert shown == ("delivered", "", "25001", Decimal("0.5"))
        else:
            assert shown == ("undelivered", "busy", "25001", None)
        assert call.reports.count() == 2 + place % 2


def test_another_report_meanwhile(outbox, monkeypatch):
    """It says the price, and leaves the status as it is."""
    call = services.start(NUMBER).newest_call
    find = reports._find

    def finds(given):
        monkeypatch.setattr(reports, "_find", find)
        found = find(given)
        services.record_report(report(call, "sent", price=Decimal("0.45")))
        return found

    monkeypatch.setattr(reports, "_find", finds)
    returned = services.record_report(report(call, "delivered"))
    call.refresh_from_db()
    for known in (returned, call):
        assert (known.status, known.price) == ("delivered", Decimal("0.45"))
