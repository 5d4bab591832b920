"""The fraud guard: who is refused, who is not, and what is written down."""

import contextlib
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.utils import timezone

from django_flashcall import services, signals
from django_flashcall.exceptions import TooManyCalls
from django_flashcall.models import Call, GuardDecision, Refusal
from django_flashcall.protection import fraud_guard

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        yield clock


def number(n, prefix="+7916123"):
    return f"{prefix}{n:04d}"


@pytest.fixture
def pump(outbox, clock):
    """Ask for calls as a fraudster does, each from an address of its own; count those placed."""

    def pump(times, prefix="+7916123", first=0, ip=None, every=timedelta(minutes=11)):
        placed = 0
        for n in range(first, first + times):
            clock.shift(every)
            with contextlib.suppress(TooManyCalls):
                services.start(number(n, prefix), ip=ip or f"198.51.{n // 200}.{n % 200}")
                placed += 1
        return placed

    return pump


@pytest.fixture
def honest(outbox, clock):
    def honest(times, prefix="+7916123", first=5000, ip=None):
        for n in range(first, first + times):
            clock.shift(timedelta(minutes=1))
            ip_of_n = ip or f"203.0.{n // 200}.{n % 200}"
            verification = services.start(number(n, prefix), ip=ip_of_n)
            token = services.check(verification, outbox[-1].code, ip=ip_of_n)
            services.redeem(token)

    return honest


def test_a_range_that_is_pumped(pump, honest):
    placed = pump(50)
    assert fraud_guard.FLOOR_OF_DAY < placed < 12
    honest(1, prefix="+7916124")
    assert sum(refusal.count for refusal in Refusal.objects.filter(scope="guard")) == 50 - placed


def test_what_a_refused_visitor_is_told(pump):
    pump(20)
    with pytest.raises(TooManyCalls) as caught:
        services.start(number(99))
    assert (caught.value.scope, caught.value.retry_after) == ("guard", 3600)


def test_what_was_refused_is_remembered(pump, clock):
    """On the next days less and less is placed, and then nothing."""
    by_day = []
    for day in range(5):
        by_day.append(pump(60, first=day * 100))
        clock.shift(timedelta(hours=14))
    assert by_day[0] > by_day[-1]
    assert by_day[-1] == 0
    assert sum(by_day) <= 3 * fraud_guard.FLOOR_OF_MEMORY


def test_an_address_that_is_used_for_many_ranges(outbox, clock, pump):
    placed = sum(pump(1, prefix=f"+7916{n:03d}", ip="198.51.100.7") for n in range(40))
    assert fraud_guard.FLOOR_OF_DAY < placed < 12
    assert pump(1, prefix="+7917000", ip="198.51.100.8") == 1
    clock.shift(timedelta(days=1))
    assert pump(1, prefix="+7917001", ip="198.51.100.7") == 1


def test_a_busy_range_of_honest_people(honest, pump):
    honest(60)
    assert pump(8) == 8
    honest(10, first=7000)


def test_an_address_of_many_honest_people(honest, pump):
    for n in range(40):
        honest(1, prefix=f"+7916{n:03d}", ip="100.64.0.1")
    assert sum(pump(1, prefix=f"+7917{n:03d}", ip="100.64.0.1") for n in range(8)) == 8


def test_who_asks_again_and_again_is_one_person(outbox, clock, configure):
    configure(COOLDOWN=0)
    for n in range(2):
        for _ in range(4):
            services.start(number(n), ip=f"198.51.100.{n}")
            clock.shift(timedelta(minutes=20))
    assert Call.objects.count() == 8
    assert not GuardDecision.objects.exists()


def test_harassing_one_number_does_not_close_its_range(outbox, clock, honest):
    for day in range(10):
        for turn in range(8):
            clock.shift(timedelta(hours=2))
            with contextlib.suppress(TooManyCalls):
                services.start(number(1), ip=f"198.51.{day}.{turn}")
        clock.shift(timedelta(hours=10))
    assert Call.objects.count() > 50
    honest(1)
    assert not GuardDecision.objects.exists()


def test_completing_codes_on_numbers_of_ones_own(outbox, clock, honest, pump):
    """Where this purpose is redeemed, what is only verified is not honest."""
    honest(3, prefix="+7999000")
    placed = 0
    for n in range(60):
        clock.shift(timedelta(minutes=11))
        ip = f"198.51.100.{n}"
        try:
            verification = services.start(number(n), ip=ip)
        except TooManyCalls:
            continue
        placed += 1
        services.check(verification, outbox[-1].code, ip=ip)
    assert placed < 12


def test_where_nothing_is_ever_redeemed_verified_is_honest(outbox, clock):
    for n in range(60):
        clock.shift(timedelta(minutes=11))
        verification = services.start(number(n))
        services.check(verification, outbox[-1].code)
    assert not GuardDecision.objects.exists()


def test_a_number_is_honest_once_a_day(outbox, clock, configure):
    """Of eight calls a day to a number of the fraudster's own, all completed, one is honest."""
    configure(COOLDOWN=0)
    placed = 0
    for n in range(12):
        for turn in range(8):
            clock.shift(timedelta(minutes=11))
            try:
                verification = services.start(number(n), ip=f"198.51.100.{n * 8 + turn}")
            except TooManyCalls:
                continue
            placed += 1
            services.check(verification, outbox[-1].code)
    assert placed < 60


def test_people_in_the_middle_of_it_prove_nothing(outbox, clock):
    for n in range(20):
        services.start(number(n), ip=f"198.51.100.{n}")
    assert Call.objects.count() == 20


def test_a_logged_in_owner_is_not_held_to_the_ranges_account(outbox, clock, pump):
    """Others are, even for this number: an answer must not tell that it has an account."""
    ann = get_user_model().objects.create_user("ann")
    token = services.check(services.start(number(9999)), outbox[-1].code)
    services.redeem(token, user=ann)
    pump(50)
    clock.shift(timedelta(minutes=5))
    with pytest.raises(TooManyCalls):
        services.start(number(9999), ip="203.0.113.1")
    assert services.start(number(9999), ip="203.0.113.1", user=ann).status == "pending"


class TestModes:
    def test_off(self, pump, configure):
        configure(FRAUD_GUARD="off")
        assert pump(50) == 50
        assert not GuardDecision.objects.exists()

    def test_record(self, pump, configure):
        configure(FRAUD_GUARD="record")
        assert pump(50) == 50
        assert {d.denied for d in GuardDecision.objects.all()} == {False}

    def test_deny(self, pump):
        pump(50)
        decision = GuardDecision.objects.get()
        assert decision.denied
        assert (decision.scope, decision.value) == ("prefix", "+7916123")
        assert decision.unverified > decision.allowed >= fraud_guard.FLOOR_OF_DAY
        assert (decision.honest, decision.count) == (0, 50 - Call.objects.count())

    def test_overruled(self, pump):
        pump(20)
        GuardDecision.objects.update(overruled_at=timezone.now())
        assert pump(20, first=100) == 20


def test_it_is_told_once_a_day(pump, caplog):
    told = []

    def receive(decision, **kwargs):
        told.append((decision.scope, decision.value))

    signals.fraud_suspected.connect(receive)
    pump(50)
    assert told == [("prefix", "+7916123")]
    assert [r.message for r in caplog.records if "fraud guard refuses" in r.message]


def test_test_numbers_are_left_alone(pump, configure, outbox):
    pump(50)
    configure(TEST_NUMBERS={number(77): "4711"})
    assert services.start(number(77)).status == "pending"


class TestSurvey:
    def survey(self):
        said = StringIO()
        call_command("flashcall_survey", stdout=said)
        return said.getvalue()

    def test_nothing(self, outbox):
        assert self.survey() == "Nothing suspicious.\n"

    def test_countries_and_operators_are_reported_and_not_refused(self, outbox, clock, configure):
        configure(ALLOWED_COUNTRIES=["RU", "KZ"])
        for n in range(30):
            services.start(f"+7701{n:03d}4567", ip=f"198.51.100.{n}")
            clock.shift(timedelta(minutes=2))
        Call.objects.update(mcc_mnc="40101")
        clock.shift(timedelta(minutes=11))
        said = self.survey()
        assert "country KZ: 30 calls" in said
        assert "operator 40101: 30 calls" in said
        assert not any(decision.denied for decision in GuardDecision.objects.all())
        services.start("+77019994567", ip="203.0.113.1")

    def test_a_rise_of_wrong_codes(self, outbox, clock):
        from .test_services import WrongCode, wrong

        told = []

        def receive(wrong, usual, **kwargs):
            told.append(wrong)

        signals.wrong_codes_rise.connect(receive)
        for n in range(15):
            verification = services.start(f"+7916{n:03d}4567", ip=f"198.51.100.{n}")
            for _ in range(2):
                with pytest.raises(WrongCode):
                    services.check(verification, wrong(outbox[-1].code), ip=f"198.51.100.{n}")
        self.survey()
        assert told == [30]
        clock.shift(timedelta(days=2))
        self.survey()
        assert told == [30]
