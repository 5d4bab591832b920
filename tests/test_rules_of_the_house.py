"""Any interleaving of what people, strangers, the provider and the clock do keeps the rules.

A state machine (Hypothesis) starts, resends, guesses, cancels, redeems, reports and lets time pass
in any order, on two numbers from two addresses. After every step it holds the rows against a simple
account of its own of what happened.
"""

import itertools
from collections import Counter
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.test import TestCase, override_settings
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from django_flashcall import services
from django_flashcall.backends import BaseBackend, CallRequest, Receipt, Report
from django_flashcall.conf import conf
from django_flashcall.delivery.reports import FORWARDS
from django_flashcall.exceptions import (
    FlashcallError,
    InvalidToken,
    Misconfigured,
    NumberRejected,
    PhoneTaken,
    TemporaryFailure,
    UnknownOutcome,
    WrongCode,
)
from django_flashcall.models import Attempt, Call, Phone, Verification

from .test_services import wrong

NUMBERS = ("+79161234567", "+79161234568")
ADDRESSES = ("203.0.113.9", "198.51.100.7")
ANSWERS = {
    "taken": None,
    "lost": UnknownOutcome,
    "rejected": NumberRejected,
    "down": TemporaryFailure,
    "mend": Misconfigured,
}


class Scripted(BaseBackend):
    answer = "taken"
    placed: list[CallRequest] = []

    def place_call(self, request: CallRequest) -> Receipt:
        self.placed.append(request)
        if error := ANSWERS[self.answer]:
            raise error("scripted")
        return Receipt(f"id-{len(self.placed)}")


class House(RuleBasedStateMachine):
    verifications = Bundle("verifications")
    tokens = Bundle("tokens")

    def __init__(self):
        super().__init__()
        Scripted.placed = []
        self.guesses = Counter()
        self.successes = Counter()
        self.redeemed = Counter()
        self.failures = Counter()
        self.statuses = {}
        self.users = [get_user_model().objects.create_user(f"user{n}") for n in range(2)]
        self.clock = time_machine.travel("2026-03-02 12:00:00+00:00", tick=False)
        self.now = self.clock.start()

    def teardown(self):
        self.clock.stop()

    def ask(self, service, answer):
        """Ask for a call; hold what came of it against the provider's side of it."""
        Scripted.answer = answer
        before = len(Scripted.placed)
        try:
            verification = service()
        except FlashcallError as refusal:
            # Whoever is refused is told when to come again.
            says_when = refusal.status_code not in (429, 503) or refusal.retry_after >= 1
            verification = None
        else:
            says_when = True
        assert says_when
        assert len(Scripted.placed) - before <= 1
        if len(Scripted.placed) > before:
            call = Call.objects.latest("pk")
            rejected = answer in ("rejected", "down", "mend")
            assert call.status == {"taken": "sent", "lost": "unknown"}.get(answer, "rejected")
            assert (verification is None) is rejected
        return verification

    @rule(
        target=verifications,
        number=st.sampled_from(NUMBERS),
        ip=st.sampled_from(ADDRESSES),
        answer=st.sampled_from([*ANSWERS, "taken", "taken"]),
    )
    def start(self, number, ip, answer):
        others = Verification.objects.values_list("pk", "state", "attempts_left", "calls_left")
        before = set(others)
        verification = self.ask(lambda: services.start(number, ip=ip), answer)
        assert before <= set(others.all())  # rule 4; a queryset keeps what it has read
        return multiple(verification) if verification else multiple()

    @rule(
        verification=verifications,
        ip=st.sampled_from(ADDRESSES),
        answer=st.sampled_from([*ANSWERS, "taken"]),
    )
    def resend(self, verification, ip, answer):
        expires = verification.expires_at
        self.ask(lambda: services.resend(verification, ip=ip), answer)
        verification.refresh_from_db()
        assert verification.expires_at == expires

    def code(self, verification):
        """The code of the newest call that may have been placed."""
        calls = verification.calls.exclude(status="rejected").order_by("-pk")
        codes = {request.reference: request.code for request in Scripted.placed}
        return next((codes[call.reference.hex] for call in calls), None)

    @rule(verification=verifications, ip=st.sampled_from(ADDRESSES))
    def guess_wrong(self, verification, ip):
        code = self.code(verification)
        number = verification.phone.number
        try:
            services.check(verification, wrong(code or "0000"), ip=ip)
        except WrongCode:
            self.guesses[verification.pk] += 1
            self.failures[number] += code is not None
        except FlashcallError:
            pass
        else:
            pytest.fail("a wrong code verified")

    @rule(target=tokens, verification=verifications, ip=st.sampled_from(ADDRESSES))
    def guess_right(self, verification, ip):
        code = self.code(verification)
        pending = verification.is_pending and code is not None
        untouched = not self.guesses[verification.pk]
        try:
            token = services.check(verification, code or "0000", ip=ip)
        except FlashcallError as refusal:
            token, scope = None, refusal.scope
        if token is None:
            # Rule 2: strangers' guesses do not refuse the owner's code.
            assert not (pending and untouched) or scope == "address"
            return multiple()
        assert pending
        self.guesses[verification.pk] += 1
        self.successes[verification.pk] += 1
        self.failures[verification.phone.number] = 0
        return (token, verification)

    @rule(verification=verifications)
    def cancel(self, verification):
        services.cancel(verification)
        assert not verification.is_pending

    @rule(token=tokens, user=st.integers(0, 1))
    def redeem(self, token, user):
        token, verification = token
        try:
            phone = services.redeem(token, user=self.users[user])
        except (InvalidToken, PhoneTaken):
            return
        self.redeemed[verification.pk] += 1
        assert phone.owner == self.users[user]
        assert phone.number == verification.phone.number

    @rule(token=consumes(tokens))
    def redeem_for_nobody(self, token):
        token, verification = token
        try:
            services.redeem(token)
        except InvalidToken:
            return
        self.redeemed[verification.pk] += 1

    @rule(place=st.integers(0, 20), outcome=st.sampled_from(["sent", "undelivered", "delivered"]))
    def report(self, place, outcome):
        calls = list(Call.objects.order_by("pk"))
        if not calls:
            return
        call = calls[place % len(calls)]
        states = Verification.objects.values_list("pk", "state", "calls_left", "attempts_left")
        before = set(states)
        services.record_report(Report("default", outcome, reference=call.reference.hex))
        assert set(states.all()) == before  # rule 9: it verifies nobody and gives nothing back

    @rule(seconds=st.sampled_from([1, 30, 61, 301, 3601, 90_000]))
    def wait(self, seconds):
        self.now.shift(timedelta(seconds=seconds))

    @invariant()
    def no_more_guesses_than_attempts(self):
        """Rule 1."""
        wrong = Counter(Attempt.objects.values_list("verification", flat=True))
        for verification in Verification.objects.all():
            used = conf.MAX_ATTEMPTS - verification.attempts_left
            assert self.guesses[verification.pk] == used
            evaluated = wrong[verification.pk] + (verification.verified_at is not None)
            assert evaluated <= used <= conf.MAX_ATTEMPTS

    @invariant()
    def failures_in_a_row(self):
        """Rule 2."""
        for phone in Phone.objects.all():
            assert phone.failures == self.failures[phone.number]

    @invariant()
    def once(self):
        """Rule 3."""
        assert set(self.successes.values()) <= {1}
        assert set(self.redeemed.values()) <= {1}
        owners = [p.owner_id for p in Phone.objects.exclude(owner=None)]
        assert len(owners) == len(set(owners))

    @invariant()
    def limits_of_the_number(self):
        """Rule 6."""
        day = timezone.now() - timedelta(days=1)
        for number in NUMBERS:
            calls = Call.objects.filter(phone__number=number).order_by("created_at")
            # A report can lift a rejection, which had given the call back.
            placed = [c for c in calls if c.answered_at and not c.provider_message]
            times = [call.created_at for call in placed]
            assert len([at for at in times if at > day]) <= 8
            pairs = itertools.pairwise(times)
            assert all((b - a).total_seconds() >= conf.COOLDOWN for a, b in pairs)

    @invariant()
    def codes_end_with_their_verifications(self):
        """Rule 7."""
        over = Call.objects.exclude(verification__state="pending")
        assert not over.exclude(code_digest="").exists()

    @invariant()
    def calls_move_forwards(self):
        """Rule 9."""
        for pk, status in Call.objects.values_list("pk", "status"):
            before = self.statuses.get(pk, status)
            assert FORWARDS.index(status) >= FORWARDS.index(before)
            self.statuses[pk] = status


class Rules(TestCase):
    """A test case, so that each machine runs in a transaction that is rolled back."""

    def test_they_hold(self):
        backend = {"BACKEND": f"{__name__}.Scripted"}

        class Isolated(House):
            def __init__(self):
                self.atomics = Rules._enter_atomics()
                super().__init__()

            def teardown(self):
                super().teardown()
                Rules._rollback_atomics(self.atomics)

        with override_settings(FLASHCALL={"BACKENDS": {"default": backend}, "MAX_FAILURES": 3}):
            run_state_machine_as_test(
                Isolated,
                settings=settings(
                    max_examples=60,
                    stateful_step_count=40,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
