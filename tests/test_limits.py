"""The wide limits, wrong codes per address, the challenge, and what is counted of refusals."""

import contextlib
from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError, connection
from django.db.models import Sum
from django.utils import timezone, translation

from django_flashcall import services, signals
from django_flashcall.backends import BaseBackend, Receipt, Report
from django_flashcall.exceptions import (
    Cooldown,
    InvalidDestination,
    NumberRejected,
    ProviderUnavailable,
    TooManyAttempts,
    TooManyCalls,
    WrongCode,
)
from django_flashcall.models import Call, CallCount, Phone, Refusal, Verification
from django_flashcall.protection import facts, refusals
from django_flashcall.verification import in_flight

from .test_services import wrong

pytestmark = pytest.mark.django_db

WIDE = {"CALLS_PER_IP": None, "CALLS_PER_PREFIX": None, "CALLS_TOTAL": None}
IP = "203.0.113.9"
NUMBER = "+79161234567"


@pytest.fixture
def only(configure):
    """Switch all wide limits off but those of a test, and the guard."""

    def only(**limits):
        configure(**{**WIDE, "COOLDOWN": 0, "FRAUD_GUARD": "off", **limits})

    return only


def number(n):
    """The n-th number, each of a range of its own."""
    return f"+7916{n:03d}4567"


def same_range(n):
    return f"+7916123{n:04d}"


def refused(**kwargs):
    with pytest.raises(TooManyCalls) as caught:
        services.start(**kwargs)
    return caught.value


@pytest.fixture
def clock():
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        yield clock


class RejectsTheSecond(BaseBackend):
    calls = 0

    def place_call(self, call):
        type(self).calls += 1
        if self.calls == 2:
            raise NumberRejected("Unknown number.")
        return Receipt(provider_id="1")


class TestOtherRequestsMeanwhile:
    """Another request calls the number after this one has read how far the limits are used."""

    @pytest.fixture
    def meanwhile(self, monkeypatch):
        """Do something after the next request has read what is stored."""

        def after_reading(function):
            look = facts.look

            def looks(*args, **kwargs):
                monkeypatch.setattr(facts, "look", look)
                found = look(*args, **kwargs)
                function()
                return found

            monkeypatch.setattr(facts, "look", looks)

        return after_reading

    @pytest.mark.parametrize("before", [0, 1])
    def test_the_limit_of_the_number(self, outbox, configure, meanwhile, before):
        configure(COOLDOWN=0, CALLS_PER_PHONE=f"{before + 1}/day")
        for _ in range(before):
            services.start(NUMBER)
        meanwhile(lambda: services.start(NUMBER))
        with pytest.raises(TooManyCalls):
            services.start(NUMBER)
        assert Call.objects.count() == len(outbox) == before + 1

    def test_the_cooldown(self, outbox, meanwhile):
        meanwhile(lambda: services.start(NUMBER))
        with pytest.raises(Cooldown):
            services.start(NUMBER)
        assert len(outbox) == 1

    def test_a_resend(self, outbox, configure, meanwhile):
        configure(COOLDOWN=0, CALLS_PER_PHONE="2/day")
        verification = services.start(NUMBER)
        meanwhile(lambda: services.start(NUMBER))
        with pytest.raises(TooManyCalls):
            services.resend(verification)
        verification.refresh_from_db()
        assert (verification.calls_left, len(outbox)) == (2, 2)

    def test_a_rejected_call_gives_back_the_time_of_the_other_one(self, configure, meanwhile):
        configure(
            COOLDOWN=0,
            BACKENDS={"default": {"BACKEND": f"{__name__}.RejectsTheSecond"}},
            CHANNELS={"flash_call": ["default"]},
        )
        RejectsTheSecond.calls = 0
        meanwhile(lambda: services.start(NUMBER))
        with pytest.raises(InvalidDestination):
            services.start(NUMBER)
        placed = Call.objects.exclude(status="rejected").get()
        assert placed.phone.last_called_at == placed.created_at

    def test_after_a_long_wait_in_between(self, outbox, configure, meanwhile, clock):
        """The other call looks as if the clock had been set back since."""
        configure(CALLS_PER_PHONE="1/day")
        services.start(NUMBER)
        Call.objects.all().delete()
        clock.shift(61)

        def much_later():
            clock.shift(61)
            services.start(NUMBER)

        meanwhile(much_later)
        with pytest.raises(TooManyCalls):
            services.start(NUMBER)
        assert Call.objects.count() == 1

    def test_there_is_still_room(self, outbox, configure, meanwhile):
        configure(COOLDOWN=0)
        meanwhile(lambda: services.start(NUMBER))
        services.start(NUMBER)
        assert len(outbox) == 2


class TestAddress:
    def test_calls_that_nobody_verified(self, outbox, only, clock):
        only(CALLS_PER_IP="3/hour")
        for n in range(3):
            services.start(number(n), ip=IP)
            clock.shift(timedelta(minutes=10))
        refusal = refused(phone=number(4), ip=IP)
        assert (refusal.status_code, refusal.retry_after) == (429, 30 * 60)
        services.start(number(4), ip="198.51.100.1")
        clock.shift(timedelta(minutes=30))
        services.start(number(5), ip=IP)

    def test_verified_ones_do_not_count(self, outbox, only):
        only(CALLS_PER_IP="2/hour")
        for n in range(5):
            verification = services.start(number(n), ip=IP)
            services.check(verification, outbox[-1].code, ip=IP)
        assert len(outbox) == 5

    def test_rejected_ones_count(self, provider, only):
        only(CALLS_PER_IP="2/hour")
        for n in range(2):
            with pytest.raises(Exception, match="couldn't call this number"):
                services.start(f"+7916{n:03d}9908", ip=IP)
        refused(phone=number(4), ip=IP)

    def test_ipv6_counts_by_64_and_by_48(self, outbox, only):
        only(CALLS_PER_IP="2/hour")
        services.start(number(0), ip="2001:db8:1:1::1")
        services.start(number(1), ip="2001:db8:1:1:ffff::2")
        refused(phone=number(2), ip="2001:db8:1:1::3")
        for n in range(3, 11):
            services.start(number(n), ip=f"2001:db8:1:{n}::1")
        refusal = refused(phone=number(12), ip="2001:db8:1:99::1")
        assert refusal.scope == "address"
        services.start(number(12), ip="2001:db8:2::1")

    def test_no_limit(self, outbox, only):
        only()
        for n in range(25):
            services.start(number(n), ip=IP)
        assert len(outbox) == 25

    def test_an_unknown_address_is_not_one_address(self, outbox, only):
        only(CALLS_PER_IP="1/hour")
        services.start(number(0))
        services.start(number(1))
        assert len(outbox) == 2


class TestPrefix:
    def test_a_range_that_is_pumped(self, outbox, only, clock):
        only(CALLS_PER_PREFIX="3/hour")
        for n in range(3):
            services.start(same_range(n))
        refusal = refused(phone=same_range(4))
        assert (refusal.scope, refusal.retry_after) == ("prefix", 3600)
        services.start(number(1))
        clock.shift(timedelta(hours=1))
        services.start(same_range(4))

    def test_verified_ones_do_not_count(self, outbox, only):
        only(CALLS_PER_PREFIX="1/hour")
        for n in range(3):
            services.check(services.start(same_range(n)), outbox[-1].code)
        assert len(outbox) == 3

    def test_rejected_ones_are_given_back(self, provider, only):
        only(CALLS_PER_PREFIX="1/hour")
        with pytest.raises(Exception, match="couldn't call this number"):
            services.start("+79161239908")
        services.start(same_range(1))


class TestTotal:
    @pytest.fixture(autouse=True)
    def nothing_told(self, monkeypatch):
        monkeypatch.setattr(refusals, "_told", set())

    def test_the_whole_budget(self, outbox, only, clock):
        only(CALLS_TOTAL="2/day")
        first = services.start(number(0))
        services.check(first, outbox[-1].code)
        services.start(number(1))
        refusal = refused(phone=number(2))
        # The slice of the window that it waits for is an hour wide.
        assert (refusal.scope, refusal.retry_after) == ("total", 25 * 3600)
        with pytest.raises(TooManyCalls):
            services.resend(Verification.objects.get(phone__number=number(1)))

    def test_it_is_free_again_when_the_slice_has_left_the_window(self, outbox, only, clock):
        only(CALLS_TOTAL="2/day")
        services.start(number(0))
        clock.shift(timedelta(hours=5))
        services.start(number(1))
        assert refused(phone=number(2)).retry_after == 20 * 3600
        clock.shift(timedelta(hours=20))
        services.start(number(2))
        assert refused(phone=number(3)).retry_after == 5 * 3600

    def test_rejected_calls_are_given_back(self, provider, only):
        only(CALLS_TOTAL="1/day")
        for _ in range(3):
            with pytest.raises(Exception, match="couldn't call this number"):
                services.start("+79161239908")
        services.start(number(1))
        refused(phone=number(2))

    def test_a_report_shows_that_a_rejected_call_was_placed(self, provider, only):
        only(CALLS_TOTAL="1/day")
        with pytest.raises(Exception, match="couldn't call this number"):
            services.start("+79161239908")
        report = Report("default", "delivered", reference=Call.objects.get().reference.hex)
        for _ in range(2):  # the second says nothing new
            services.record_report(report)
        assert CallCount.objects.aggregate(calls=Sum("calls")) == {"calls": 1}
        refused(phone=number(2))

    def test_what_is_rolled_back_is_not_counted(self, outbox, only, monkeypatch):
        only(CALLS_TOTAL="1/day")
        monkeypatch.setattr(in_flight, "_taken", 100)
        with pytest.raises(ProviderUnavailable):
            services.start(number(0))
        monkeypatch.setattr(in_flight, "_taken", 0)
        services.start(number(0))

    def test_calls_forgotten_stay_spent(self, outbox, only):
        only(CALLS_TOTAL="1/day")
        services.forget(services.start(number(0)).phone)
        refused(phone=number(1))

    @pytest.fixture
    def told(self):
        """What receivers of `budget_spent` are told."""
        told = []

        def receive(share, spent, limit, **kwargs):
            told.append((share, spent, limit))

        signals.budget_spent.connect(receive)
        yield told
        signals.budget_spent.disconnect(receive)

    def test_its_shares_are_told_once(self, outbox, only, clock, told):
        only(CALLS_TOTAL="10/day")
        for n in range(10):
            services.start(number(n))
        assert told == [(50, 5, 10), (80, 8, 10), (100, 10, 10)]
        clock.shift(timedelta(days=2))
        for n in range(5):
            services.start(number(n))
        assert told[3:] == [(50, 5, 10)]

    def test_its_shares_are_those_of_strangers(self, outbox, only, told):
        only(CALLS_TOTAL="20/day")  # one of them is kept for owners
        for n in range(19):
            services.start(number(n))
        assert told == [(50, 10, 19), (80, 16, 19), (100, 19, 19)]
        refused(phone=number(19))

    def test_another_process_does_not_tell_again(self, outbox, only, clock, monkeypatch):
        only(CALLS_TOTAL="2/day")
        told = []
        signals.budget_spent.connect(receiver := lambda share, **kwargs: told.append(share))
        services.start(number(0))
        monkeypatch.setattr(refusals, "_told", set())
        CallCount.objects.update(begins_at=timezone.now() - timedelta(days=3))
        services.start(number(1))
        assert told == [50]
        signals.budget_spent.disconnect(receiver)


class TestFailures:
    """`FAILURES_PER_IP`: guessing across many numbers."""

    def guess(self, verification, code, ip=IP):
        return services.check(verification, code, ip=ip)

    def fail(self, n, outbox, ip=IP):
        verification = services.start(number(n), ip="198.51.100.7")
        with pytest.raises(WrongCode):
            self.guess(verification, wrong(outbox[-1].code), ip)
        return verification

    def test_across_numbers(self, outbox, only, clock):
        only(FAILURES_PER_IP="3/day")
        for n in range(3):
            self.fail(n, outbox)
            clock.shift(timedelta(hours=1))
        verification = services.start(number(9), ip="198.51.100.7")
        for _ in range(2):
            with pytest.raises(TooManyAttempts) as caught:
                self.guess(verification, outbox[-1].code)
        assert caught.value.retry_after == 21 * 3600
        # It was not evaluated, and so no attempt is spent; the owner's own address goes on.
        verification.refresh_from_db()
        assert verification.attempts_left == 3
        assert self.guess(verification, outbox[-1].code, "198.51.100.8")

    def test_those_who_verify_in_the_end_do_not_count(self, outbox, only):
        only(FAILURES_PER_IP="2/day")
        for n in range(4):
            verification = self.fail(n, outbox)
            assert self.guess(verification, outbox[-1].code)

    def test_ipv6(self, outbox, only):
        only(FAILURES_PER_IP="1/day")
        self.fail(0, outbox, "2001:db8:1:1::1")
        verification = services.start(number(1))
        with pytest.raises(TooManyAttempts):
            self.guess(verification, outbox[-1].code, "2001:db8:1:1::2")
        for n in range(2, 6):
            self.fail(n, outbox, f"2001:db8:1:{n}::1")
        verification = services.start(number(7))
        with pytest.raises(TooManyAttempts):
            self.guess(verification, outbox[-1].code, "2001:db8:1:77::2")


class TestRefusals:
    def test_one_row_an_hour(self, outbox, only, clock):
        only(CALLS_PER_IP="1/hour")
        services.start(number(0), ip=IP)
        for n in range(1, 6):
            refused(phone=number(n), ip=IP)
        row = Refusal.objects.get()
        assert (row.scope, row.reason, row.count, row.example) == (
            "address",
            "too_many_calls",
            5,
            IP,
        )
        assert str(row.hour) == "2026-03-02 12:00:00+00:00"
        # What was refused leaves nothing else behind.
        assert Call.objects.count() == Verification.objects.count() == 1

    def test_numbers_are_no_examples(self, outbox, configure):
        services.start(number(0))
        with pytest.raises(Exception, match="just called this number"):
            services.start(number(0))
        assert Refusal.objects.get().example == ""

    @pytest.mark.parametrize("phone", ["+14155552671", "+74951234567"])
    def test_what_is_not_allowed_counts_too(self, outbox, phone):
        with pytest.raises(Exception, match="can't call"):
            services.start(phone)
        assert Refusal.objects.get().scope == "rule"


def says_yes(request):
    return True


def says_no(request):
    return False


def reads_the_answer(request):
    return request.data.get("captcha") == "right"


class TestChallenge:
    @pytest.fixture
    def start(self, api):
        def start(n, **more):
            data = {"phone": number(n), **more}
            answer = api.post("/api/verifications/", data, format="json", REMOTE_ADDR=IP)
            return answer.status_code, answer.json().get("error_code")

        return start

    def test_is_asked_when_more_than_half_is_used(self, outbox, only, start):
        only(CALLS_PER_IP="4/hour", CHALLENGE=f"{__name__}.says_no")
        assert [start(n)[0] for n in range(3)] == [201, 201, 201]
        assert start(3) == (403, "challenge_required")
        assert Call.objects.count() == 3

    def test_whoever_passes_goes_on_to_the_hard_limit(self, outbox, only, start):
        only(CALLS_PER_IP="4/hour", CHALLENGE=f"{__name__}.says_yes")
        assert [start(n)[0] for n in range(4)] == [201] * 4
        assert start(4) == (429, "too_many_calls")

    def test_it_sees_the_request(self, outbox, only, start):
        only(CALLS_TOTAL="2/day", CHALLENGE=f"{__name__}.reads_the_answer")
        assert [start(n)[0] for n in range(2)] == [201, 201]
        assert start(2, captcha="wrong") == (403, "challenge_required")

    def test_a_stranger_is_asked_and_the_owner_is_not(
        self, outbox, only, start, api, django_user_model
    ):
        only(CALLS_PER_IP="2/hour", CHALLENGE=f"{__name__}.says_no")
        ann = django_user_model.objects.create_user("ann")
        Phone.objects.create(number=number(2), owner=ann)
        assert [start(n)[0] for n in range(2)] == [201, 201]
        assert start(2) == (403, "challenge_required")
        api.force_authenticate(django_user_model.objects.create_user("bob"))
        assert start(2) == (403, "challenge_required")
        api.force_authenticate(ann)
        assert start(2)[0] == 201

    def test_a_resend_is_asked_too(self, outbox, only, api, start):
        only(CALLS_PER_PREFIX="2/hour", CHALLENGE=f"{__name__}.says_no")
        for n in range(2):
            services.start(same_range(n))
        verification = Verification.objects.first()
        answer = api.post(f"/api/verifications/{verification.pk}/resend/", {}, format="json")
        assert answer.json()["error_code"] == "challenge_required"

    def test_without_one_the_hard_limit_stands_alone(self, outbox, only, start):
        only(CALLS_PER_IP="2/hour")
        assert [start(n) for n in range(3)] == [
            (201, None),
            (201, None),
            (429, "too_many_calls"),
        ]


@pytest.mark.parametrize(
    ("seconds", "english", "russian"),
    [
        (1, "1 second", "1 секунду"),
        (43, "43 seconds", "43 секунды"),
        (120, "2 minutes", "2 минуты"),
        (1441, "25 minutes", "25 минут"),
        (7200, "2 hours", "2 часа"),
        (75_601, "22 hours", "22 часа"),
    ],
)
def test_people_are_told_when_to_come_back(seconds, english, russian):
    error = TooManyCalls(retry_after=seconds)
    assert str(error).startswith(f"Too many calls. Try again in {english}. If you have")
    assert str(TooManyAttempts(retry_after=seconds)).endswith(f"Try again in {english}.")
    with translation.override("ru"):
        assert str(error).startswith(f"Слишком много звонков. Попробуйте через {russian}. Если")


class TestWaitingForTheDatabase:
    """Requests that had to wait do not shorten the cooldown: a phone would ring twice."""

    @pytest.fixture
    def waits(self, clock):
        """Lets the first statement that writes take so many seconds."""

        @contextlib.contextmanager
        def waits(seconds):
            left = [seconds]

            def run(execute, sql, *args):
                result = execute(sql, *args)
                if left and sql.startswith(("INSERT", "UPDATE", "WITH")):
                    clock.shift(timedelta(seconds=left.pop()))
                return result

            with connection.execute_wrapper(run):
                yield

        return waits

    @pytest.mark.parametrize("resent", [False, True])
    def test_the_cooldown_begins_when_it_calls(self, outbox, configure, clock, waits, resent):
        configure(COOLDOWN=60)
        if resent:
            verification = services.start(NUMBER)
            clock.shift(timedelta(seconds=60))
        with waits(20):
            if resent:
                services.resend(verification)
            else:
                services.start(NUMBER)
        clock.shift(timedelta(seconds=59))
        with pytest.raises(Cooldown) as caught:
            services.start(NUMBER)
        assert caught.value.retry_after == 1
        clock.shift(timedelta(seconds=1))
        services.start(NUMBER)

    def test_a_rejected_call_gives_that_cooldown_back(self, configure, clock, waits, provider):
        configure(CALLS_TOTAL="100/day")
        clock.move_to("2026-03-02 12:59:55+00:00")  # its slice has ended when it calls
        with waits(20), pytest.raises(InvalidDestination):
            services.start("+79161239908")
        assert Phone.objects.get().last_called_at is None
        assert not CallCount.objects.exclude(calls=0).exists()

    def test_a_database_that_fails_then_changes_nothing(self, outbox, waits):
        def locked(execute, sql, *args):
            if sql.startswith("UPDATE") and "django_flashcall_phone" in sql:
                raise OperationalError("database is locked")
            return execute(sql, *args)

        with waits(20), connection.execute_wrapper(locked):
            assert services.start(NUMBER).newest_call.status == "sent"
        assert len(outbox) == 1

    def test_pretended_calls_tell_the_same(self, outbox, configure, waits):
        with waits(30), pytest.raises(ProviderUnavailable):
            services.pretend_call(NUMBER, purpose="others")
        services.pretend_call(NUMBER, purpose="others")

    def test_after_half_of_the_cooldown_nobody_is_called(self, outbox, configure, clock, waits):
        """Another request that waited, and that came after the cooldown, calls the number."""
        configure(COOLDOWN=60)
        with waits(30), pytest.raises(ProviderUnavailable):
            services.start(NUMBER)
        assert not outbox
        call = Call.objects.get()
        assert (call.status, call.verification.status) == ("rejected", "failed")
        services.start(NUMBER)
        assert len(outbox) == 1

    @pytest.mark.parametrize(
        "keys", [{"COOLDOWN": 0}, {"COOLDOWN": 9}, {"TEST_NUMBERS": {NUMBER: "1234"}}]
    )
    def test_what_needs_no_cooldown_waits_as_long_as_it_must(self, outbox, configure, waits, keys):
        configure(**keys)
        with waits(100):
            assert services.start(NUMBER).newest_call.status == "sent"
