"""The timeline: everything that happened in a verification, in order, on one page."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.backends import Report
from django_flashcall.exceptions import FlashcallError, WrongCode
from django_flashcall.insight import timeline
from django_flashcall.insight.timeline import Kind
from django_flashcall.models import Attempt, Call, DeliveryReport, Verification

from .operators import VIEW, operator, url

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


def kinds(verification):
    verification.refresh_from_db()
    return [event.kind for event in timeline.of(verification)]


def wrong(code):
    return str(int(code[0]) ^ 1) + code[1:]


def report(call, outcome, **values):
    values = {"backend": call.backend, "reference": call.reference.hex, **values}
    services.record_report(Report(provider_id=call.provider_id, outcome=outcome, **values))


@pytest.fixture
def finished(outbox, configure, django_user_model):
    """A verification in which everything happened that can."""
    configure(COOLDOWN=0)
    verification = services.start(NUMBER, ip="203.0.113.7")
    report(verification.newest_call, "sent")
    report(verification.newest_call, "undelivered", error_code="absent_subscriber", mcc_mnc="25001")
    services.resend(verification)
    report(verification.newest_call, "delivered", mcc_mnc="25001", price="0.45")
    with pytest.raises(WrongCode):
        services.check(verification, wrong(outbox[-1].code), ip="203.0.113.8")
    token = services.check(verification, outbox[-1].code, ip="203.0.113.7")
    services.redeem(token, user=django_user_model.objects.create_user(username="ann"))
    return verification


def test_everything_in_order(finished):
    assert kinds(finished) == [
        Kind.STARTED,
        Kind.CALL,
        Kind.ANSWER,
        Kind.REPORT,
        Kind.REPORT,
        Kind.CALL,
        Kind.ANSWER,
        Kind.REPORT,
        Kind.ATTEMPT,
        Kind.VERIFIED,
        Kind.REDEEMED,
    ]
    events = timeline.of(finished)
    assert [event.number for event in events] == [0, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0]
    times = [event.at for event in events]
    assert times == sorted(times)


def test_a_report_that_came_before_the_answer(outbox):
    verification = services.start(NUMBER)
    report(verification.newest_call, "delivered")
    DeliveryReport.objects.update(created_at=verification.created_at)
    assert kinds(verification) == [Kind.STARTED, Kind.CALL, Kind.REPORT, Kind.ANSWER]


def test_how_a_verification_ends(outbox, provider, configure):
    cancelled = services.start("+79161234561")
    services.cancel(cancelled)
    assert kinds(cancelled)[-1] is Kind.CANCELLED
    expired = services.start("+79161234562")
    Verification.objects.filter(pk=expired.pk).update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )
    assert Kind.EXPIRED in kinds(expired)
    with pytest.raises(FlashcallError):
        services.start("+79161239908")
    rejected = Verification.objects.get(phone__number="+79161239908")
    assert kinds(rejected) == [Kind.STARTED, Kind.CALL, Kind.ANSWER, Kind.FAILED]
    guessed = services.start("+79161234563")
    code = provider.last_call("+79161234563").code
    for _ in range(3):
        with pytest.raises(FlashcallError):
            services.check(guessed, wrong(code))
    assert kinds(guessed)[-2:] == [Kind.ATTEMPT, Kind.FAILED]
    pending = services.start("+79161234564")
    assert kinds(pending) == [Kind.STARTED, Kind.CALL, Kind.ANSWER]


def test_a_killed_process_leaves_a_call_without_an_answer(outbox):
    verification = services.start(NUMBER)
    Call.objects.update(status="queued", answered_at=None)
    assert kinds(verification) == [Kind.STARTED, Kind.CALL]
    page = operator(*VIEW).get(url("verification", verification.pk)).content.decode()
    assert "No response was recorded." in page


def test_the_page_tells_it_in_words(finished, outbox):
    page = operator(*VIEW).get(url("verification", finished.pk)).content.decode()
    text = " ".join(page.split())
    told = [
        "Started</strong> by an app without a session, from 203.0.113.7; purpose: signup",
        "Call 1</strong> requested: flash call through “default”",
        "Response to call 1 after",
        f"The provider accepted the call with ID locmem-{outbox[0].reference}",
        "Report on call 1</strong>",
        "Phone off or out of coverage. Operator: MTS.",
        "Call 2</strong>",
        "Report on call 2</strong>",
        "Price: 0.45",
        "Wrong code entered</strong>, from 203.0.113.8",
        "Verified</strong>, from 203.0.113.7",
        "Redeemed</strong> by ann",
    ]
    places = [text.find(words) for words in told]
    assert -1 not in places, told[places.index(-1)]
    assert places == sorted(places)
    assert "916123" not in text
    for call in outbox:
        assert f">{call.code}<" not in text


@pytest.mark.parametrize(
    ("starter", "words"),
    [
        ({}, "by an app without a session"),
        ({"session": "s" * 20}, "by a visitor who was not logged in"),
        ({"user": "eve"}, "by eve"),
    ],
)
def test_who_started_it(outbox, starter, words):
    if "user" in starter:
        starter = {"user": get_user_model().objects.create_user(username=starter["user"])}
    verification = services.start(NUMBER, **starter)
    page = operator(*VIEW).get(url("verification", verification.pk)).content.decode()
    assert words in page


def test_few_queries_however_much_happened(finished):
    client = operator(*VIEW)
    client.get(url("verification", finished.pk))  # fills the cache of content types

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url("verification", finished.pk)).status_code == 200
        return len(captured)

    few = queries()
    for call in list(Call.objects.all()):
        call.pk, call._state.adding, call.reference = None, True, None
        call.reference = Call._meta.get_field("reference").default()
        call.save()
        DeliveryReport.objects.create(call=call, outcome="sent")
        Attempt.objects.create(verification=finished)
    assert queries() == few <= 8
