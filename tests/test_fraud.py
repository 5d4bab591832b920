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
from django_flashcall.exceptions import Cooldown, TooManyCalls
from django_flashcall.models import Attempt, Call, GuardDecision, GuardRequest, Phone, Refusal
from django_flashcall.protection import evidence, fraud_guard

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


def ask(n, ip, prefix="+7916123"):
    """Ask for a call; return the verification, or the seconds to wait."""
    try:
        return services.start(number(n, prefix), ip=ip)
    except TooManyCalls as error:
        return error.retry_after


class TestAttackers:
    """Nobody completes these calls: little passes."""

    def test_a_range(self, pump, honest):
        placed = pump(50)
        assert 5 < placed < 10
        honest(1, prefix="+7916124")
        blocked = Refusal.objects.filter(scope="guard")
        assert sum(refusal.count for refusal in blocked) == 50 - placed

    def test_a_range_for_days(self, pump, clock):
        by_day = []
        for day in range(10):
            by_day.append(pump(60, first=day * 100))
            clock.shift(timedelta(hours=13))
        assert by_day[0] < 12
        assert sum(by_day[1:]) <= 9

    @pytest.mark.parametrize("every", [11, 31])
    def test_a_second_attack_is_narrowed_like_the_first(self, pump, clock, every):
        pump(9)
        clock.shift(timedelta(days=16))
        again = pump(26, first=3000, every=timedelta(minutes=every))
        wait = fraud_guard.what_passes(GuardDecision.objects.get(), timezone.now()).wait
        clock.shift(timedelta(days=16))
        first = pump(26, "+7916124", first=3000, every=timedelta(minutes=every))
        assert again in (first - 1, first)  # the evidence of the first attack faded, not all of it
        decision = GuardDecision.objects.get(value="+7916124")
        usual = fraud_guard.what_passes(decision, timezone.now()).wait
        assert abs(wait - usual) < timedelta(hours=1)

    def test_an_address_that_is_used_for_many_ranges(self, clock, pump):
        placed = sum(pump(1, prefix=f"+7916{n:03d}", ip="198.51.100.7") for n in range(60))
        assert 4 < placed < 8
        assert pump(1, prefix="+7917000", ip="198.51.100.8") == 1
        clock.shift(timedelta(days=10))
        assert pump(1, prefix="+7917001", ip="198.51.100.7") == 1

    def test_those_who_come_back(self, outbox, clock):
        """Each number is asked for again from the same address, as honest people do."""
        placed = 0
        for n in range(400):
            clock.shift(timedelta(minutes=6))
            if isinstance(ask(n, f"198.51.100.{n % 250}"), int):
                clock.shift(timedelta(minutes=6))
                placed += not isinstance(ask(n, f"198.51.100.{n % 250}"), int)
        assert placed < 72

    def test_completing_codes_on_numbers_of_ones_own(self, outbox, clock, honest):
        """Where this purpose is redeemed, what is only verified is not honest."""
        honest(3, prefix="+7999000")
        placed = 0
        for n in range(60):
            clock.shift(timedelta(minutes=11))
            ip = f"198.51.100.{n}"
            verification = ask(n, ip)
            if not isinstance(verification, int):
                placed += 1
                services.check(verification, outbox[-1].code, ip=ip)
        assert placed < 12

    def test_a_number_is_honest_once_a_day(self, outbox, clock, configure):
        """Of eight calls a day to a number of the fraudster's own, all completed, one is honest."""
        configure(COOLDOWN=0)
        placed = 0
        for n in range(12):
            for turn in range(8):
                clock.shift(timedelta(minutes=11))
                verification = ask(n, f"198.51.100.{n * 8 + turn}")
                if not isinstance(verification, int):
                    placed += 1
                    services.check(verification, outbox[-1].code)
        assert placed < 72


class TestHonestPeople:
    """An attacker cannot aim the guard at them."""

    @pytest.fixture
    def strangers(self, outbox, clock, configure):
        """Twelve calls of strangers to four numbers, from twelve addresses."""
        for n in range(12):
            clock.shift(timedelta(minutes=2))
            services.start(number(n % 4), ip=f"198.51.100.{n}")
        clock.shift(timedelta(minutes=11))

    def test_after_strangers_called_few_numbers(self, strangers, honest):
        honest(8)
        assert not GuardDecision.objects.exists()

    def test_in_a_narrowed_range(self, pump, clock, honest, outbox):
        """They get through when they come back; each who completes reopens it noticeably."""
        pump(50)
        waits = []
        for n in range(5000, 5005):
            ip = f"203.0.113.{n % 250}"
            verification = ask(n, ip)
            if isinstance(verification, int):
                clock.shift(verification)
                verification = ask(n, ip)
            clock.shift(10)
            services.redeem(services.check(verification, outbox[-1].code))
            drip = fraud_guard.what_passes(GuardDecision.objects.get(), timezone.now())
            if drip is None:
                break
            waits.append(drip.wait)
        assert 0 < len(waits) <= 3
        assert waits == sorted(waits, reverse=True)
        honest(5, first=6000)

    def test_whose_range_is_narrowed_while_they_wait(self, pump, clock, outbox):
        pump(12, ip="203.0.113.9", prefix="+7903555")
        assert ask(5000, "203.0.113.9") == 300  # the address is narrowed, the range is not
        pump(8, every=timedelta(minutes=11))
        assert not isinstance(ask(5000, "203.0.113.9"), int)
        assert GuardDecision.objects.get(value="+7916123").denied

    def test_who_comes_back_after_the_longest_wait(self, pump, clock):
        pump(40)
        assert isinstance(ask(5000, "203.0.113.1"), int)
        clock.shift(evidence.RETURN_LONGEST_WAIT)
        assert not isinstance(ask(5000, "203.0.113.1"), int)

    def test_a_flood_from_one_address_does_not_take_their_place(self, pump, clock):
        pump(20)
        for n in range(200):
            ask(n, "198.18.0.9")
        assert GuardRequest.objects.count() <= 20 + fraud_guard.FROM_NETWORK
        assert ask(5000, "203.0.113.1") >= 300
        clock.shift(timedelta(minutes=40))
        assert not isinstance(ask(5000, "203.0.113.1"), int)

    def test_a_flood_from_one_subscriber_does_not_either(self, pump, clock):
        """An IPv6 subscriber can have a /48, with 65,536 networks."""
        pump(20)
        for n in range(200):
            ask(n, f"2001:db8:1:{n}::1")
        assert GuardRequest.objects.count() <= 20 + fraud_guard.FROM_NETWORK

    def test_who_comes_back_too_soon_waits_the_rest(self, pump, clock):
        pump(50)
        ask(5000, "203.0.113.1")
        clock.shift(100)
        assert ask(5000, "203.0.113.1") == 200

    def test_another_person_has_not_asked_before(self, pump, clock):
        pump(50)
        ask(5000, "203.0.113.1")
        clock.shift(400)
        assert ask(5000, "203.0.113.2") == 300
        assert ask(5001, "203.0.113.1") == 300
        assert GuardRequest.objects.count() >= 3
        assert not isinstance(ask(5000, "203.0.113.1"), int)

    def test_it_passes_once(self, pump, clock, configure):
        configure(COOLDOWN=0)
        pump(50)
        wait = ask(5000, "203.0.113.1")
        clock.shift(wait)
        assert not isinstance(ask(5000, "203.0.113.1"), int)
        assert isinstance(ask(5000, "203.0.113.1"), int)

    def test_who_comes_back_tomorrow_asks_anew(self, pump, clock):
        pump(50)
        ask(5000, "203.0.113.1")
        clock.shift(timedelta(hours=3))
        assert isinstance(ask(5000, "203.0.113.1"), int)

    def test_a_missed_call(self, pump, outbox, clock):
        pump(50)
        clock.shift(ask(5000, "203.0.113.1"))
        verification = services.start(number(5000), ip="203.0.113.1")
        clock.shift(61)
        services.resend(verification, ip="203.0.113.1")
        clock.shift(61)
        with pytest.raises(TooManyCalls):
            services.resend(verification, ip="203.0.113.1")

    def test_requests_that_are_refused_elsewhere_use_up_nothing(self, pump, clock, outbox):
        """What passes is taken with the call: a number that was just called takes nothing."""
        for n in range(6):
            clock.shift(timedelta(minutes=11))
            services.start(number(n), ip=f"198.51.100.{n}")
        clock.shift(timedelta(minutes=11))
        services.start(number(7), ip="198.51.100.7")  # narrowed; it passes
        clock.shift(timedelta(hours=9))
        Phone.objects.filter(number=number(1)).update(last_called_at=timezone.now())
        for n in range(3):
            with pytest.raises(Cooldown):
                services.start(number(1), ip=f"198.51.101.{n}")
        assert not isinstance(ask(5000, "203.0.113.1"), int)

    def test_evidence_fades_in_days(self, pump, clock):
        pump(50)
        clock.shift(timedelta(days=4))
        assert pump(3, first=5000) == 3

    def test_a_busy_range(self, honest, pump):
        honest(60)
        assert pump(8) == 8
        honest(10, first=7000)

    def test_an_address_of_many(self, honest, pump):
        for n in range(40):
            honest(1, prefix=f"+7916{n:03d}", ip="100.64.0.1")
        assert sum(pump(1, prefix=f"+7917{n:03d}", ip="100.64.0.1") for n in range(8)) == 8

    def test_who_asks_again_and_again_is_one_person(self, outbox, clock, configure):
        configure(COOLDOWN=0)
        for n in range(2):
            for _ in range(4):
                services.start(number(n), ip=f"198.51.100.{n}")
                clock.shift(timedelta(minutes=20))
        assert Call.objects.count() == 8
        assert not GuardDecision.objects.exists()

    def test_harassing_one_number_says_nothing_about_its_range(self, outbox, clock, honest):
        for day in range(10):
            for turn in range(8):
                clock.shift(timedelta(hours=2))
                with contextlib.suppress(TooManyCalls):
                    services.start(number(1), ip=f"198.51.{day}.{turn}")
            clock.shift(timedelta(hours=10))
        assert Call.objects.count() > 50
        honest(1)
        assert not GuardDecision.objects.exists()

    def test_few_networks_say_nothing_about_a_range(self, outbox, clock, honest):
        for n in range(40):
            clock.shift(timedelta(minutes=30))
            with contextlib.suppress(TooManyCalls):
                services.start(number(n), ip=f"198.51.100.{n % 3}")
        honest(5)
        assert not GuardDecision.objects.filter(scope="prefix").exists()

    def test_where_nothing_is_ever_redeemed_verified_is_honest(self, outbox, clock):
        for n in range(60):
            clock.shift(timedelta(minutes=11))
            verification = services.start(number(n))
            services.check(verification, outbox[-1].code)
        assert not GuardDecision.objects.exists()

    def test_people_in_the_middle_of_it_prove_nothing(self, outbox, clock):
        for n in range(20):
            services.start(number(n), ip=f"198.51.100.{n}")
        assert Call.objects.count() == 20

    def test_a_logged_in_owner_is_not_held_to_the_ranges_account(self, outbox, clock, pump):
        """Others are, even for this number: an answer must not tell that it has an account."""
        ann = get_user_model().objects.create_user("ann")
        token = services.check(services.start(number(9999)), outbox[-1].code)
        services.redeem(token, user=ann)
        pump(50)
        clock.shift(timedelta(minutes=5))
        assert isinstance(ask(9999, "203.0.113.1"), int)
        assert services.start(number(9999), ip="203.0.113.1", user=ann).status == "pending"


class TestStrictness:
    def test_when_much_of_the_budget_is_spent(self, pump, configure, outbox, clock):
        configure(CALLS_TOTAL="30/day")
        assert sum(pump(1, prefix=f"+7916{n:03d}", ip=f"203.0.113.{n}") for n in range(11)) == 11
        assert sum(pump(1, prefix=f"+7917{n:03d}", ip="198.51.100.7") for n in range(8)) <= 2

    def test_who_asks_for_the_same_number_again(self, pump, configure, outbox, clock):
        configure(CALLS_TOTAL="30/day", COOLDOWN=0)
        for n in range(11):
            pump(1, prefix=f"+7916{n:03d}", ip=f"203.0.113.{n}")
        for _ in range(3):
            clock.shift(timedelta(minutes=11))
            services.start(number(1), ip="198.51.100.7")


class TestModes:
    def test_off(self, pump, configure):
        configure(FRAUD_GUARD="off")
        assert pump(50) == 50
        assert not GuardDecision.objects.exists()

    def test_record(self, pump, configure):
        configure(FRAUD_GUARD="record")
        assert pump(50) == 50
        decision = GuardDecision.objects.get()
        assert not decision.denied
        assert decision.last_at - decision.created_at > timedelta(hours=5)

    def test_recorded_anew(self, pump, configure, clock):
        configure(FRAUD_GUARD="record")
        pump(20)
        clock.shift(timedelta(days=16))
        pump(20, first=3000)
        decision = GuardDecision.objects.get()
        assert decision.last_at - decision.created_at < timedelta(hours=5)

    def test_deny(self, pump):
        pump(50)
        decision = GuardDecision.objects.get()
        assert decision.denied
        assert (decision.scope, decision.value) == ("prefix", "+7916123")
        assert decision.unverified > decision.allowed >= 5
        assert decision.honest == 0
        assert decision.count == 50 - Call.objects.count()
        assert decision.passed >= 1

    def test_opened_by_a_person(self, pump):
        pump(20)
        GuardDecision.objects.update(mode="open")
        assert pump(20, first=100) == 20

    def test_only_watched(self, pump):
        pump(20)
        GuardDecision.objects.update(mode="watch")
        before = GuardDecision.objects.get().count
        assert pump(20, first=100) == 20
        assert GuardDecision.objects.get().count == before + 20

    def test_closed_by_a_person(self, pump, clock):
        pump(20)
        GuardDecision.objects.update(mode="closed")
        clock.shift(timedelta(days=40))
        assert ask(5000, "203.0.113.1") == 3600
        clock.shift(3600)
        assert ask(5000, "203.0.113.1") == 3600

    def test_closed_before_the_first_call_is_repeated(self, clock, outbox):
        verification = ask(5000, "203.0.113.1")
        decision = {"denied": True, "unverified": 9, "honest": 0, "allowed": 5}
        GuardDecision.objects.create(scope="prefix", value="+7916123", mode="closed", **decision)
        clock.shift(61)
        with pytest.raises(TooManyCalls):
            services.resend(verification, ip="203.0.113.1")
        assert len(outbox) == 1
        assert GuardDecision.objects.get().count == 1


def test_it_is_told_once_a_day(pump, clock, caplog):
    told, counted = [], []

    def receive(decision, **kwargs):
        told.append((decision.scope, decision.value))
        counted.append((decision.count, decision.passed))

    signals.fraud_suspected.connect(receive)
    pump(50)
    assert told == [("prefix", "+7916123")]
    assert [r.message for r in caplog.records if "fraud guard narrows" in r.message]
    clock.shift(timedelta(days=1))
    ask(5000, "203.0.113.1")
    decision = GuardDecision.objects.get()
    assert told == [("prefix", "+7916123")] * 2
    assert counted[1] == (decision.count, decision.passed) > (1, 1)


def test_test_numbers_are_left_alone(pump, configure, outbox):
    pump(50)
    configure(TEST_NUMBERS={number(77): "4711"})
    assert services.start(number(77)).status == "pending"


def test_remembered_requests_are_bounded_and_contain_no_number(pump, clock):
    pump(20)
    for n in range(100):
        ask(n, f"198.18.0.{n}")
    assert GuardRequest.objects.count() <= fraud_guard.REQUESTS + 20
    assert not any(number(n)[-4:] in row.prefix for n, row in enumerate(GuardRequest.objects.all()))


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
        began = set(GuardDecision.objects.values_list("created_at", flat=True))
        clock.shift(timedelta(hours=1))
        self.survey()
        assert set(GuardDecision.objects.values_list("created_at", flat=True)) == began

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
        Attempt.objects.create(
            verification=verification, created_at=timezone.now() + timedelta(days=40)
        )
        self.survey()
        assert told == [30]
        clock.shift(timedelta(hours=1))
        self.survey()  # it is as high as an hour ago
        assert told == [30]
        clock.shift(timedelta(days=2))
        self.survey()
        assert told == [30]

    def test_as_many_wrong_codes_as_every_day(self, outbox, clock):
        verification = services.start(number(1))
        now = timezone.now()
        Attempt.objects.bulk_create(
            Attempt(verification=verification, created_at=now - timedelta(days=day, minutes=n))
            for day in range(7)
            for n in range(20)
        )
        told = []
        signals.wrong_codes_rise.connect(lambda **kwargs: told.append(1), weak=False)
        self.survey()
        assert told == []

    def test_what_a_person_opened_is_not_reported(self, outbox, clock):
        for n in range(30):
            services.start(f"+7916{n:03d}4567", ip=f"198.51.100.{n}")
            clock.shift(timedelta(minutes=2))
        clock.shift(timedelta(minutes=11))
        assert "country RU" in self.survey()
        GuardDecision.objects.filter(scope="country").update(mode="open")
        assert "country RU" not in self.survey()
