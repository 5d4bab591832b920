"""The chaos run can fail: each thing that must not happen is found."""

import random
from collections import Counter

import pytest
import requests
from django.db.models import F

from django_flashcall import services
from django_flashcall.models import Call, CallCount, QueuedCall, Verification

from .chaos.audit import TOO_LATE, audit
from .chaos.people import AppUser
from .chaos.provider import Provider, answers

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(simulator):
    """The provider of the run, which does not run."""
    world = Provider("1", 0, drops_duplicates=False)
    world.simulator = simulator
    return world


@pytest.fixture
def person(world):
    return AppUser("", 1, "1", world)


@pytest.fixture
def verified(person, provider):
    """Somebody who asked for one call, and typed the code."""
    verification = services.start(person.number)
    code = provider.last_call(person.number).code
    services.check(verification, code)
    person.asked = 1
    person.typed[str(verification.pk)] = [code]
    person.right.append((str(verification.pk), code))
    person.confirmed[str(verification.pk)] = "verified"
    return verification


@pytest.fixture
def found(verified, person, world):
    """Return what the audit finds, by kind."""

    def found():
        findings = audit(world, [person])
        return {kind: words for kind, words in vars(findings).items() if words}

    assert found() == {}
    return found


@pytest.fixture
def calls(verified):
    return Call.objects.filter(verification=verified)


class TestLost:
    def test_a_call_without_a_row(self, found, calls):
        calls.delete()
        assert "has no row" in found()["lost"][0]

    @pytest.mark.parametrize("status", ["rejected", "queued"])
    def test_a_row_that_denies_a_call(self, status, found, calls):
        calls.update(status=status)
        assert f"was placed, reported None, and is {status}" in found()["lost"][0]

    @pytest.mark.parametrize("status", ["sent", "delivered", "queued"])
    def test_a_row_that_claims_a_call(self, status, found, verified, provider):
        provider.clear()
        Call.objects.update(status=status)
        assert f"was not placed, reported None, and is {status}" in found()["lost"][0]

    def test_a_report(self, found, calls, world):
        world.reported[calls.get().reference.hex] = "delivered"
        assert "reported delivered, and is sent" in found()["lost"][0]

    def test_a_call_that_nobody_places(self, found, calls):
        QueuedCall.objects.create(call=calls.get())
        assert "is still queued" in found()["lost"][0]

    def test_a_call_that_was_to_be_refunded(self, found):
        Verification.objects.update(calls_left=F("calls_left") - 1)
        CallCount.objects.update(calls=F("calls") + 1)
        assert "1 calls left after 1" in found()["lost"][0]
        assert "instead of 1" in found()["lost"][1]

    def test_an_attempt(self, found):
        Verification.objects.update(attempts_left=3)
        assert "3 attempts left after 1" in found()["lost"][0]

    def test_a_confirmed_verification(self, found):
        Verification.objects.update(state="pending", verified_at=None, attempts_left=3)
        assert "was verified and is pending" in found()["lost"][0]

    def test_a_verification(self, found, person):
        person.confirmed["00000000-0000-0000-0000-000000000000"] = "pending"
        assert "was pending and is missing" in found()["lost"][0]

    def test_an_account(self, found, verified, person):
        Verification.objects.update(state="redeemed")
        person.confirmed[str(verified.pk)] = "redeemed"
        assert "has another owner" in found()["lost"][0]

    def test_a_call_that_was_replaced_keeps_its_place(self, found, provider, calls):
        provider.clear()
        calls.update(status="rejected", provider_message=TOO_LATE)
        assert "lost" not in found()


def test_a_second_call_with_the_same_id(found, provider):
    requests.post(provider.url, json=provider.requests[0].json)
    assert found()["twice"] == [
        f"call {provider.calls[0].id} was placed 2 times",
        "2 calls to somebody who asked 1 times",
    ]


def test_a_wrong_code_that_the_site_accepted(found, verified, person, provider):
    code = provider.calls[0].code
    wrong = f"{(int(code) + 1) % 10**4:04d}"
    person.right.append((str(verified.pk), wrong))
    assert "accepted a code of no call" in found()["wrong_code"][0]


def test_a_verification_that_nobody_typed_the_code_for(found, person):
    person.typed.clear()
    assert "was verified without its code" in found()["wrong_code"][0]


def test_a_500(found, person, world):
    person.answers.update([(503, "unavailable"), (500, None), (0, None)])
    world.answers.update([None, 200, 503, 502])
    got = [f"somebody, or the provider, got {status}" for status in (500, 502)]
    assert sorted(found()["errors"]) == got


def test_a_third_of_the_answers_are_faults():
    prepared = answers(random.Random(1))
    found = Counter(is_fault(next(prepared)) for _ in range(3000))
    assert 900 < found[True] < 1100


def is_fault(answer):
    is_error = answer.body is not None and b'"error"' in answer.body
    return answer.manner.name != "WHOLE" or (answer.body is not None and not is_error)
