"""What the fraud guard concludes, without a database."""

import random
from dataclasses import astuple
from datetime import UTC, datetime, timedelta

import pytest

from django_flashcall.protection import evidence
from django_flashcall.protection.evidence import Observed

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
HALF_LIFE = timedelta(days=3)


def some_calls(seed):
    pick = random.Random(seed)
    ages = sorted(pick.uniform(-5, 10 * 86_400) for _ in range(100))
    return [
        Observed(
            pick.randrange(40),
            pick.choice(["", *(f"203.0.113.{n}" for n in range(30))]),
            NOW.timestamp() - age,
            pick.random() < seed / 10,
        )
        for age in ages
    ]


@pytest.mark.parametrize("seed", range(10))
def test_the_past_is_weighed_beside_all_calls(seed):
    calls = some_calls(seed)
    old = [call for call in calls if NOW.timestamp() - call.at >= 86_400]
    new = [call for call in calls if call not in old]
    assert old
    assert new
    found, before = evidence.weigh_with_past(calls, NOW, HALF_LIFE)
    assert astuple(found) == pytest.approx(astuple(evidence.weigh(old + new, NOW, HALF_LIFE)))
    assert astuple(before) == pytest.approx(astuple(evidence.weigh(old, NOW, HALF_LIFE)))


def test_the_heaviest_call_to_a_number_counts_fully():
    at = NOW.timestamp() - HALF_LIFE.total_seconds()
    calls = [Observed(1, "", at, False), Observed(1, "", at - 3 * 86_400, False)]
    found = evidence.weigh(calls, NOW, HALF_LIFE)
    assert found.unverified == pytest.approx(0.5 + evidence.REPEATED * 0.25)
    settled = evidence.weigh(calls, NOW, HALF_LIFE, settled=True)
    assert settled.unverified == pytest.approx(0.5 + 0.25)


def test_a_call_that_was_a_moment_ahead_is_of_today():
    at = NOW.timestamp()
    calls = [Observed(1, "", at - 60, True), Observed(1, "", at + 2, True)]
    assert evidence.weigh(calls, NOW, HALF_LIFE).honest == 1
