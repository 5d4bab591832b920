"""Two providers over real HTTP: when the second is called, and when never."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone

from django_flashcall import services, signals, tasks, testing
from django_flashcall.insight import timeline
from django_flashcall.insight.timeline import Kind
from django_flashcall.models import Call, CallCount, CircuitBreaker, Phone, QueuedCall, Verification
from django_flashcall.simulator import STEERING, Account, Answer, Simulator
from django_flashcall.verification import in_flight

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
RETRIES = 2

MAY_HAVE_BEEN_PLACED = {
    "a hang": STEERING["9920"][0],
    "a reset": STEERING["9921"][0],
    "dripped headers": STEERING["9922"][0],
    "a dripped body": STEERING["9923"][0],
    "the page of a proxy": STEERING["9924"][0],
    "garbage": STEERING["9925"][0],
    "a body that is too long": STEERING["9926"][0],
    "error 100": Answer.error(100),
}


@pytest.fixture
def first():
    with Simulator([Account("first", "password")]) as simulator:
        yield simulator


@pytest.fixture
def second():
    with Simulator([Account("second", "password")]) as simulator:
        yield simulator


@pytest.fixture(params=["inline", "task"])
def site(request, first, second, settings, api):
    """A site with both providers, whose calls are placed by requests or by workers."""
    backends = {}
    for simulator, alias in (first, "default"), (second, "second"):
        # Long enough for a busy machine that answers, short enough for a provider that does not.
        found = testing.simulated(simulator, connect_timeout=1, timeout=2, retries=RETRIES)
        backends[alias] = found["BACKENDS"]["default"]
    settings.FLASHCALL = {
        "BACKENDS": backends,
        "CHANNELS": {"flash_call": ["default", "second"]},
        "DISPATCH": request.param,
    }
    return Site(api, request.param)


class Site:
    def __init__(self, api, dispatch):
        self.api = api
        self.is_inline = dispatch == "inline"

    def start(self):
        """Start, let a worker place the call, and return the status and the verification."""
        response = self.api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        self.work()
        return response

    def work(self):
        for call in list(QueuedCall.objects.values_list("call", flat=True)):
            tasks.place_call.call(call)

    def shown(self):
        path = f"/api/verifications/{Verification.objects.get().pk}/"
        return self.api.get(path).json()

    def check(self, code):
        path = f"/api/verifications/{Verification.objects.get().pk}/check/"
        return self.api.post(path, {"code": code}, format="json")


def calls():
    return list(Call.objects.order_by("pk").values_list("backend", "status"))


def assert_the_second_was_called(site, second):
    [placed] = second.calls
    assert calls() == [("default", "rejected"), ("second", "sent")]
    rejected, sent = Call.objects.order_by("pk")
    assert (placed.id, placed.number) == (sent.reference.hex, NUMBER)
    assert rejected.reference != sent.reference
    # Each try is a call in the timeline; they count once in the limits.
    kinds = [event.kind for event in timeline.of(Verification.objects.get())]
    assert kinds.count(Kind.CALL) == 2
    assert CallCount.objects.aggregate(Sum("calls")) == {"calls__sum": 1}
    shown = site.shown()
    assert (shown["call"], shown["calls_left"]) == ({"status": "sent", "error_code": None}, 2)
    assert site.check(placed.code).status_code == 200


class TestUnable:
    """The first provider certainly places no call: the second does, and nobody sees an error."""

    def test_a_refused_connection(self, site, first, second):
        first.stop()
        assert site.start().status_code == 201
        assert_the_second_was_called(site, second)

    @pytest.mark.parametrize("code", [1, 3])
    def test_an_error_that_passes_after_its_retries(self, code, site, first, second):
        first.script(*[Answer.error(code)] * (RETRIES + 1))
        assert site.start().status_code == 201
        assert [request.status for request in first.requests] == [Answer.error(code).status] * (
            RETRIES + 1
        )
        assert len({request.json["id"] for request in first.requests}) == 1
        assert_the_second_was_called(site, second)

    @pytest.mark.parametrize("code", [2, 4, 5, 6, 7, 9, 11])
    def test_an_error_of_the_account(self, code, site, first, second):
        first.script(Answer.error(code))
        assert site.start().status_code == 201
        assert len(first.requests) == 1
        assert_the_second_was_called(site, second)
        assert Call.objects.get(backend="default").must_mend

    def test_wrong_credentials(self, site, first, second):
        first.accounts = {"first": Account("first", "another password")}
        assert site.start().status_code == 201
        assert_the_second_was_called(site, second)

    def test_a_breaker_that_is_open(self, site, first, second):
        at = timezone.now()
        CircuitBreaker.objects.create(
            backend="default", failures=5, opened_at=at, next_try_at=at + timedelta(seconds=30)
        )
        assert site.start().status_code == 201
        assert not first.requests
        assert calls() == [("second", "sent")]
        assert site.check(second.last_call(NUMBER).code).status_code == 200


class TestNever:
    """The second provider would call in vain, or a phone that rings already."""

    @pytest.mark.parametrize("answer", MAY_HAVE_BEEN_PLACED)
    def test_a_call_that_may_have_been_placed(self, answer, site, first, second):
        first.script(MAY_HAVE_BEEN_PLACED[answer])
        site.start()
        assert len(first.requests) == 1
        assert not second.requests
        assert calls() == [("default", "unknown")]
        assert Phone.objects.get().last_called_at is not None
        if first.calls:
            assert site.check(first.last_call(NUMBER).code).status_code == 200

    @pytest.mark.parametrize(
        ("code", "error_code"), [(8, "invalid_destination"), (10, "duplicate_call")]
    )
    def test_an_error_in_the_request(self, code, error_code, site, first, second):
        first.script(Answer.error(code))
        response = site.start()
        if site.is_inline:
            assert response.json()["error_code"] == error_code
        assert site.shown()["call"] == {"status": "rejected", "error_code": error_code}
        assert not second.requests
        assert calls() == [("default", "rejected")]

    def test_the_bulkhead_is_full(self, site, first, second, monkeypatch, configure):
        """All providers share the places, because all of them occupy the threads of the process."""
        configure(MAX_CALLS_IN_FLIGHT=1)
        monkeypatch.setattr(in_flight, "_taken", 1)
        response = site.start()
        if site.is_inline:
            assert (response.status_code, response.json()["retry_after"]) == (503, 15)
            assert not first.requests
            assert not Verification.objects.exists()
        else:  # no request waits for a provider
            assert response.status_code == 201
            assert len(first.calls) == 1
        assert not second.requests


def test_both_are_unable(site, first, second):
    for simulator in first, second:
        simulator.script(*[Answer.error(1)] * (RETRIES + 1))
    response = site.start()
    if site.is_inline:
        assert response.json()["error_code"] == "provider_unavailable"
    assert calls() == [("default", "rejected"), ("second", "rejected")]
    assert site.shown()["status"] == "failed"
    assert Phone.objects.get().last_called_at is None
    assert CallCount.objects.aggregate(Sum("calls")) == {"calls__sum": 0}


def test_the_second_does_not_answer(site, first, second):
    first.stop()
    second.script(Answer(manner=STEERING["9920"][0].manner))
    assert site.start().status_code == 201
    assert calls() == [("default", "rejected"), ("second", "unknown")]
    assert site.check(second.last_call(NUMBER).code).status_code == 200


def test_the_limit_of_a_number_holds_between_two_providers(site, first, second, settings):
    settings.FLASHCALL = {**settings.FLASHCALL, "CALLS_PER_PHONE": "1/day", "COOLDOWN": 0}
    first.stop()
    verifications = []

    def start_again(call, **kwargs):
        signals.call_failed.disconnect(start_again)
        verifications.append(services.start(NUMBER))

    signals.call_failed.connect(start_again)
    response = site.start()
    site.work()
    assert len(second.calls) == 1
    if site.is_inline:
        assert response.json()["error_code"] == "too_many_calls"
    assert [call for call in calls() if call[1] == "sent"] == [("second", "sent")]
    assert CallCount.objects.aggregate(Sum("calls")) == {"calls__sum": 1}


def test_somebody_who_cancels_meanwhile_is_not_called(site, first, second):
    first.stop()

    def give_up(call, **kwargs):
        services.cancel(Verification.objects.get())

    signals.call_failed.connect(give_up)
    try:
        response = site.start()
    finally:
        signals.call_failed.disconnect(give_up)
    if site.is_inline:
        assert (response.status_code, response.json()["error_code"]) == (400, "cancelled")
    assert not second.calls
    assert calls() == [("default", "rejected")]
    assert not QueuedCall.objects.exists()
    assert not Call.objects.exclude(code_digest="").exists()
    assert site.shown()["status"] == "cancelled"
    assert Phone.objects.get().last_called_at is None
    assert CallCount.objects.aggregate(Sum("calls")) == {"calls__sum": 0}
