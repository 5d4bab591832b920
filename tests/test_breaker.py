"""The circuit breaker: a backend that keeps failing is left alone, then tried by one request."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import connections
from django.db.models import Sum
from django.utils import timezone
from rest_framework.test import APIClient

from django_flashcall import services, signals
from django_flashcall.backends import BaseBackend, Receipt
from django_flashcall.exceptions import (
    Cooldown,
    DuplicateRejected,
    FlashcallError,
    Misconfigured,
    NumberRejected,
    ProviderUnavailable,
    TemporaryFailure,
    TooManyCalls,
    UnknownOutcome,
    WrongCode,
)
from django_flashcall.models import Call, CallCount, CircuitBreaker, Phone, Refusal, Verification
from django_flashcall.verification import breaker, dispatch

pytestmark = pytest.mark.django_db

ANSWERS: list = []
ASKED: list = []


class ScriptedBackend(BaseBackend):
    """Answers what the test wants, and accepts calls after that."""

    def place_call(self, call):
        ASKED.append(call)
        answer = ANSWERS.pop(0) if ANSWERS else None
        if answer is not None:
            raise answer
        return Receipt(provider_id="1")


@pytest.fixture(autouse=True)
def backends(configure):
    path = f"{__name__}.ScriptedBackend"
    configure(
        BACKENDS={"default": {"BACKEND": path}, "voice": {"BACKEND": path}},
        CHANNELS={"flash_call": ["default"], "voice_code": ["voice"]},
        MAX_CALLS_IN_FLIGHT=50,
    )
    ANSWERS.clear()
    ASKED.clear()


@pytest.fixture
def clock():
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        yield clock


@pytest.fixture
def sent():
    """The signals of the breaker, in their order."""
    sent = []

    def paused(breaker, **kwargs):
        sent.append(("paused", breaker.backend, breaker.reason))

    def resumed(breaker, **kwargs):
        sent.append(("resumed", breaker.backend))

    signals.backend_paused.connect(paused)
    signals.backend_resumed.connect(resumed)
    yield sent
    signals.backend_paused.disconnect(paused)
    signals.backend_resumed.disconnect(resumed)


def number(n):
    return f"+7916{n:03d}4567"


def fail(*errors, first=0):
    """Start a verification for each error, which the provider answers."""
    ANSWERS[:] = errors
    for n in range(first, first + len(errors)):
        with contextlib.suppress(FlashcallError):
            services.start(number(n))


def temporary(times=5):
    return [TemporaryFailure("Server overloaded.") for _ in range(times)]


def test_a_backend_that_keeps_failing_is_left_alone(api, clock, sent, caplog):
    fail(*temporary())
    assert sent == [("paused", "default", "Server overloaded.")]
    answer = api.post("/api/verifications/", {"phone": number(9)}, format="json")
    assert (answer.status_code, answer.json()["error_code"]) == (503, "provider_unavailable")
    assert answer["Retry-After"] == "30"
    assert len(ASKED) == Call.objects.count() == 5
    assert not Phone.objects.filter(number=number(9)).exists()
    assert Refusal.objects.get(scope="breaker").count == 1
    assert "no calls go through backend 'default' for 30 s" in caplog.text
    clock.shift(timedelta(seconds=20))
    with pytest.raises(ProviderUnavailable) as caught:
        services.start(number(9))
    assert caught.value.retry_after == 10


def test_lost_responses_are_failures(clock, sent):
    fail(*(UnknownOutcome("No response.") for _ in range(5)))
    assert sent == [("paused", "default", "No response.")]


@pytest.mark.parametrize(
    "between", [None, NumberRejected("No such number."), DuplicateRejected("Twice.")]
)
def test_failures_count_in_a_row(sent, between):
    """What shows that the provider works ends the row."""
    fail(*temporary(4), between, *temporary(4))
    assert sent == []
    assert services.start(number(99)).newest_call.status == "sent"


def test_what_no_wait_mends_does_not_count(sent):
    fail(*temporary(4), *(Misconfigured("Invalid login.") for _ in range(9)))
    assert sent == []
    fail(*temporary(1), first=50)
    assert len(sent) == 1


def test_one_tries_when_the_wait_is_over_and_resumes(clock, sent):
    fail(*temporary())
    clock.shift(timedelta(seconds=30))
    services.start(number(20))
    assert sent[1:] == [("resumed", "default")]
    services.start(number(21))
    assert CircuitBreaker.objects.get().failures == 0


def test_a_request_that_began_before_the_last_failure(clock):
    """It waited for the database: the wait is not longer because the clock was set back."""
    fail(*temporary())
    breakers = {row.backend: row for row in CircuitBreaker.objects.all()}
    with pytest.raises(ProviderUnavailable):
        breaker.usable(["default"], breakers, timezone.now() - timedelta(seconds=5))


def test_a_failed_try_waits_again(clock, sent):
    fail(*temporary())
    clock.shift(timedelta(seconds=31))
    fail(*temporary(1), first=20)
    assert len(ASKED) == 6
    with pytest.raises(ProviderUnavailable) as caught:
        services.start(number(21))
    assert caught.value.retry_after == 30
    assert len(ASKED) == 6
    assert len(sent) == 1


def test_who_is_refused_for_another_reason_does_not_use_the_try_up(clock):
    services.start(number(20))
    fail(*temporary())
    clock.shift(timedelta(seconds=31))
    with pytest.raises(Cooldown):
        services.start(number(20))
    assert services.start(number(21)).newest_call.status == "sent"


def test_a_resend_is_refused_too(clock, configure):
    verification = services.start(number(20))
    fail(*temporary())
    left = Verification.objects.get(pk=verification.pk).calls_left
    clock.shift(timedelta(seconds=20))
    with pytest.raises(ProviderUnavailable):
        services.resend(verification)
    verification.refresh_from_db()
    assert verification.calls_left == left


def test_other_backends_and_test_numbers_go_on(clock, configure):
    configure(TEST_NUMBERS={number(30): "1234"})
    fail(*temporary())
    assert services.start(number(20), channel="voice_code").newest_call.backend == "voice"
    assert services.start(number(30)).newest_call.is_test


def test_never(configure, sent):
    configure(BREAKER_FAILURES=0)
    fail(*temporary(9))
    assert len(ASKED) == 9
    assert sent == []


def test_by_hand(clock, sent):
    fail(*temporary())
    assert breaker.resume("default")
    assert not breaker.resume("default")
    assert sent[1:] == [("resumed", "default")]
    services.start(number(20))


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_tries(configure):
    fail(*temporary())
    CircuitBreaker.objects.update(
        next_try_at=Verification.objects.earliest("created_at").created_at
    )
    ASKED.clear()
    ANSWERS[:] = temporary(20)
    barrier = threading.Barrier(20)

    def start(n):
        try:
            barrier.wait()
            data = {"phone": number(100 + n)}
            return APIClient().post("/api/verifications/", data, format="json").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(start, range(20))) == {503}
    assert len(ASKED) == 1
    assert Call.objects.count() == 6


class TestFailOver:
    @pytest.fixture(autouse=True)
    def backends(self, backends, configure):
        path = f"{__name__}.ScriptedBackend"
        configure(
            BACKENDS={name: {"BACKEND": path} for name in ("default", "second", "third")},
            CHANNELS={"flash_call": ["default", "second", "third"]},
            COOLDOWN=0,
        )

    @staticmethod
    def calls():
        return list(Call.objects.order_by("pk").values_list("backend", "status"))

    @pytest.mark.parametrize(
        "error", [TemporaryFailure("Overloaded."), Misconfigured("Invalid login.")]
    )
    def test_the_next_backend_tries_what_one_cannot(self, error):
        ANSWERS[:] = [error]
        verification = services.start(number(1))
        assert self.calls() == [("default", "rejected"), ("second", "sent")]
        assert verification.newest_call.backend == "second"
        assert (verification.status, verification.calls_left) == ("pending", 2)
        # The code of the call that was placed verifies, not that of the other.
        first, second = (call.code for call in ASKED)
        assert ASKED[0].reference != ASKED[1].reference
        if first != second:
            with pytest.raises(WrongCode):
                services.check(verification, first)
        assert services.check(verification, second)

    def test_all_of_them_fail(self):
        ANSWERS[:] = temporary(3)
        with pytest.raises(ProviderUnavailable):
            services.start(number(1))
        assert self.calls() == [(name, "rejected") for name in ("default", "second", "third")]
        assert Verification.objects.get().status == "failed"
        assert Phone.objects.get().last_called_at is None
        assert CallCount.objects.aggregate(calls=Sum("calls")) == {"calls": 0}

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (NumberRejected("No such number."), "rejected"),
            (DuplicateRejected("Twice."), "rejected"),
            (UnknownOutcome("No response."), "unknown"),
            (TemporaryFailure("Perhaps placed.", may_have_been_placed=True), "unknown"),
        ],
    )
    def test_no_other_tries_where_it_would_not_help_or_ring_twice(self, error, status):
        ANSWERS[:] = [error]
        with contextlib.suppress(FlashcallError):
            services.start(number(1))
        assert self.calls() == [("default", status)]

    def test_it_counts_once(self, configure):
        configure(CALLS_PER_PHONE="2/day", CALLS_TOTAL="2/day")
        ANSWERS[:] = temporary(2)
        services.start(number(1))
        services.start(number(1))
        with pytest.raises(TooManyCalls):
            services.start(number(1))
        assert CallCount.objects.aggregate(calls=Sum("calls")) == {"calls": 2}

    def test_a_resend(self):
        verification = services.start(number(1))
        ANSWERS[:] = temporary(1)
        services.resend(verification)
        assert self.calls()[1:] == [("default", "rejected"), ("second", "sent")]
        assert verification.calls_left == 1

    def test_a_resend_that_all_refuse_keeps_the_earlier_code(self):
        verification = services.start(number(1))
        ANSWERS[:] = temporary(3)
        with pytest.raises(ProviderUnavailable):
            services.resend(verification)
        assert services.check(services.find(verification.pk), ASKED[0].code)

    def test_a_paused_backend_is_passed_over(self, clock):
        for n in range(5):
            ANSWERS[:] = temporary(1)
            services.start(number(n))
        ASKED.clear()
        services.start(number(9))
        assert len(ASKED) == 1
        assert self.calls()[-1] == ("second", "sent")
        clock.shift(timedelta(seconds=30))
        services.start(number(10))
        assert self.calls()[-1] == ("default", "sent")

    def test_nobody_waits_for_a_second_backend_after_a_slow_one(self, monkeypatch):
        monkeypatch.setattr(dispatch, "FAILOVER_WITHIN", 0)
        ANSWERS[:] = temporary(1)
        with pytest.raises(ProviderUnavailable):
            services.start(number(1))
        assert self.calls() == [("default", "rejected")]
