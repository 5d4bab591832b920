"""What if: the site's own calls under other settings."""

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command

from django_flashcall import services
from django_flashcall.models import Call, GuardDecision, Refusal

pytestmark = pytest.mark.django_db


def what_if(*settings, days=30):
    said = StringIO()
    call_command("flashcall_what_if", *settings, days=days, stdout=said)
    return said.getvalue()


@pytest.fixture
def pumped(outbox, configure):
    """A site without the guard: sixty pumped calls to one range, and six honest people."""
    configure(FRAUD_GUARD="off")
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        for n in range(60):
            clock.shift(timedelta(minutes=20))
            services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
            if n % 10 == 9:
                clock.shift(10)
                verification = services.start(f"+7916124{n:04d}", ip=f"203.0.113.{n}")
                services.redeem(services.check(verification, outbox[-1].code))
        yield clock


def test_with_the_guard(pumped):
    said = what_if("FRAUD_GUARD=deny")
    assert "66 calls in 30 days, 6 completed." in said
    saved = int(said.partition("Saved: ")[2].split()[0])
    assert saved > 45
    assert "Refused: 0 calls that people completed (0.00 %)." in said
    assert f"FRAUD_GUARD: {saved}" in said


def test_with_the_settings_of_the_site(pumped):
    assert "Saved: 0 calls" in what_if()


def test_honest_people_who_would_be_refused(pumped):
    said = what_if("CALLS_TOTAL=3/day")
    assert "Refused: 6 calls that people completed (100.00 %)." in said
    assert "CALLS_TOTAL: " in said


def test_honest_people_who_would_have_to_come_back(pumped, outbox):
    for n in range(2):
        pumped.shift(timedelta(minutes=1))
        verification = services.start(f"+791612350{n}0", ip=f"203.0.113.{200 + n}")
        services.redeem(services.check(verification, outbox[-1].code))
    said = what_if("FRAUD_GUARD=deny")
    assert "Delayed: 0" not in said
    assert "Refused: 0" in said


def test_only_the_last_days(pumped):
    pumped.shift(timedelta(days=5))
    assert "0 calls in 3 days, 0 completed." in what_if(days=3)


def test_it_changes_nothing(pumped):
    before = Call.objects.count()
    what_if("FRAUD_GUARD=deny", "CALLS_TOTAL=5/day")
    assert Call.objects.count() == before
    assert not GuardDecision.objects.exists()
    assert not Refusal.objects.exists()


@pytest.mark.parametrize("text", ["CALLS_TOTAL=many", "COOLDOWN=5", "FRAUD_GUARD=", "x"])
def test_what_cannot_be_tried(pumped, text):
    with pytest.raises(CommandError):
        what_if(text)


def test_none_switches_a_limit_off(pumped):
    assert "Saved: 0" in what_if("CALLS_TOTAL=None", "CALLS_PER_IP=None")
