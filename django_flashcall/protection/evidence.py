"""What the fraud guard concludes from calls. Nothing here reads the database or the clock.

So the same functions judge a request and answer "what if" for the calls of the past.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from ..prepared.records import seconds_of

PATIENCE = timedelta(minutes=10)
"""A call counts more and more until it is so old: the person may still be entering the code."""

TRIES = 3
"""Calls per day to a number that completes which say nothing: one person may request several."""

TRIES_OF_NUMBER = 5
"""Further ones of a number that count in all."""

REPEATED = 0.1
"""The weight of another call to the same number, or from the same network. A call to a further
number from a further network weighs 1: only such calls are dear to make."""

PER_NETWORK = 2
"""Numbers completed from the same network on a day that count for their range."""

RIPE, DAY = PATIENCE.total_seconds(), timedelta(days=1).total_seconds()
"""`PATIENCE` and a day in seconds: numbers are faster than intervals."""

USUAL_SHARE = 0.5
"""The usual share of uncompleted calls where the past says nothing else."""

LOWEST_SHARE = 0.25
"""The lowest usual share."""


class Observed(NamedTuple):
    """A call of the past.

    Attributes:
        number: identifies its number.
        network: the visitor's network.
        at: when it was requested; see `seconds_of`.
        completed: its verification was completed.
    """

    number: int
    network: str
    at: float
    completed: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """The figures for a range or an address, faded with time.

    Attributes:
        unverified: calls that were not completed, by weight.
        honest: numbers that completed, counted once a day.
    """

    unverified: float = 0
    honest: float = 0

    def allowed(self, floor: float, share: float, deviations: float) -> float:
        """Return the weight of uncompleted calls that chance explains."""
        calls = self.unverified + self.honest
        expected = share * calls + deviations * math.sqrt(share * (1 - share) * calls)
        return max(floor, expected)


@dataclass(frozen=True, slots=True)
class Strictness:
    """From when a range or an address is narrowed, and to what.

    Attributes:
        half_life: the time in which evidence fades to its half.
        floor: a weight of uncompleted calls that is never suspicious.
        deviations: allowed standard deviations above the usual share.
        wait: the time between two calls that pass at once, before any of them was not completed.
        memory: the time in which calls that passed are forgotten to their half. For a range, it is
            longer than `half_life`.
    """

    half_life: timedelta
    floor: float
    deviations: float
    wait: timedelta
    memory: timedelta


RANGE = Strictness(timedelta(days=3), 5, 2, timedelta(minutes=30), timedelta(days=14))
ADDRESS = Strictness(timedelta(days=2), 4, 2, timedelta(hours=2), timedelta(days=2))
"""Addresses change hands, so their evidence fades faster."""

STRICT_RANGE = replace(RANGE, floor=2.5, deviations=1)
STRICT_ADDRESS = replace(ADDRESS, floor=0.5, deviations=0.5)
"""While more than a third of ``CALLS_TOTAL`` is spent: the rest is for those who complete calls."""


def weigh(
    calls: Iterable[Observed], now: datetime, half_life: timedelta, *, settled: bool = False
) -> Evidence:
    """Return the evidence of calls to a range or from an address.

    The uncompleted calls count by further numbers or by further networks, whichever is less; see
    `REPEATED`. For an address, remove the networks: then only numbers count.

    Args:
        calls: the calls.
        now: the time of the request.
        half_life: the time in which they fade to their half.
        settled: calls of the last minutes count as uncompleted until they are completed, and
            repeated ones count fully: they have passed although something spoke against them.
    """
    scales = _Scales(now, half_life, settled=settled)
    scales.add(calls)
    return scales.evidence()


def weigh_with_past(
    calls: Iterable[Observed], now: datetime, half_life: timedelta
) -> tuple[Evidence, Evidence]:
    """Return the evidence of calls as `weigh` does, and that of those older than a day alone.

    Args:
        calls, now, half_life: see `weigh`.
    """
    scales = _Scales(now, half_life)
    recent: list[Observed] = []
    past: list[Observed] = []
    for call in calls:
        (past if scales.now - call.at >= DAY else recent).append(call)
    scales.add(past)
    before = scales.evidence()
    scales.add(recent)
    return scales.evidence(), before


class _Scales:
    """Weighs calls. All calls of a number on one day have to be added together."""

    def __init__(self, now: datetime, half_life: timedelta, *, settled: bool = False) -> None:
        self.now = seconds_of(now)
        self.half_life = half_life.total_seconds()
        self.settled = settled
        self.unverified = self.extra = self.honest = 0.0
        self.heaviest_of_number: dict[int, float] = {}
        self.heaviest_of_network: dict[str, float] = {}
        # A `Counter` is slow for a key that is missing.
        self.excess: dict[int, int] = {}
        self.from_network: dict[tuple[str, float], int] = {}

    def add(self, calls: Iterable[Observed]) -> None:
        now, half_life = self.now, self.half_life
        completed: dict[tuple[int, float], tuple[int, float, str]] = {}
        uncompleted = []
        for number, network, at, is_completed in calls:
            age = now - at
            if age < 0:  # another request can be a moment ahead
                age = 0.0
            number_and_day = number, age // DAY
            fade = 0.5 ** (age / half_life)
            if not is_completed:
                weight = fade if self.settled or age >= RIPE else fade * age / RIPE
                uncompleted.append((number_and_day, network, weight))
            elif (before := completed.get(number_and_day)) is None:
                completed[number_and_day] = 1, fade, network
            else:
                count, other_fade, other_network = before
                heaviest = max((other_fade, other_network), (fade, network))
                completed[number_and_day] = count + 1, *heaviest
        others: dict[tuple[int, float], int] = {}
        for number_and_day, network, weight in uncompleted:
            if number_and_day in completed:
                others[number_and_day] = others.get(number_and_day, 0) + 1
            else:
                self._add_unverified(number_and_day[0], network, weight)
        for number_and_day, (count, fade, network) in completed.items():
            count += others.get(number_and_day, 0)
            self._add_honest(*number_and_day, count, fade, network)

    def _add_unverified(self, number: int, network: str, weight: float) -> None:
        self.unverified += weight
        if weight >= self.heaviest_of_number.get(number, 0):
            self.heaviest_of_number[number] = weight
        if weight >= self.heaviest_of_network.get(network, 0):
            self.heaviest_of_network[network] = weight

    def _add_honest(self, number: int, day: float, calls: int, fade: float, network: str) -> None:
        from_network = self.from_network.get((network, day), 0) + 1
        self.from_network[network, day] = from_network
        if not network or from_network <= PER_NETWORK:
            self.honest += fade
        # Fraudsters complete codes on numbers of their own.
        if calls > TRIES:
            excess = self.excess.get(number, 0)
            more = min(calls - TRIES, TRIES_OF_NUMBER - excess)
            self.excess[number] = excess + more
            self.extra += more * fade

    def evidence(self) -> Evidence:
        # Of each number or network, the heaviest call counts fully.
        dear = sum(self.heaviest_of_number.values())
        if self.heaviest_of_network.keys() != {""}:
            dear = min(dear, sum(self.heaviest_of_network.values()))
        repeated = 1 if self.settled else REPEATED
        weight = repeated * self.unverified + (1 - repeated) * dear
        return Evidence(weight + self.extra, self.honest)


def usual_share(past: Evidence) -> float:
    """Return the share of uncompleted calls that is borne: half more than there was before.

    Twenty imagined calls with the usual share keep a short past from deciding.
    """
    calls = past.unverified + past.honest
    share = (past.unverified + 20 * USUAL_SHARE) / (calls + 20)
    return min(USUAL_SHARE, max(LOWEST_SHARE, 1.5 * share))


# The trickle.

GROWTH = 16
"""Each uncompleted call multiplies the wait by this."""

LONGEST_WAIT = timedelta(days=14)
"""The longest such wait."""

RETURN_AFTER = timedelta(minutes=5)
"""Visitors who are refused, and ask again after this time, have a trickle of their own."""

RETURN_WITHIN = timedelta(hours=3)
"""They have to ask again within this time, which is longer than any wait that they are told."""

RETURN_FIRST_WAIT = timedelta(minutes=2)
RETURN_GROWTH = 2
RETURN_LONGEST_WAIT = timedelta(hours=2)
"""The same for the calls of visitors who asked again: never less than some calls a day."""

SOLVED_FIRST_WAIT = timedelta(seconds=30)
SOLVED_GROWTH = 1.5
SOLVED_LONGEST_WAIT = timedelta(minutes=15)
"""The same for those who solved the site's ``CHALLENGE``: a solution costs a fraction of a call."""

WORTH = 1
"""An honest completion outweighs so many uncompleted calls."""


class Trickle(NamedTuple):
    """How much passes of a narrowed range or address.

    Attributes:
        wait: the time between two calls that pass at once.
        returning: the same for visitors who asked again.
        solved: the same for visitors who solved the site's ``CHALLENGE``.
    """

    wait: timedelta
    returning: timedelta
    solved: timedelta


def trickle(found: Evidence, strictness: Strictness) -> Trickle:
    """Return what passes, given the evidence of `weigh` with ``settled``."""
    level = found.unverified - WORTH * found.honest
    if level < 0:
        return Trickle(timedelta(), timedelta(), timedelta())
    return Trickle(
        _grow(strictness.wait, GROWTH, level, LONGEST_WAIT),
        _grow(RETURN_FIRST_WAIT, RETURN_GROWTH, level, RETURN_LONGEST_WAIT),
        _grow(SOLVED_FIRST_WAIT, SOLVED_GROWTH, level, SOLVED_LONGEST_WAIT),
    )


def _grow(first: timedelta, growth: float, level: float, longest: timedelta) -> timedelta:
    if level >= math.log(longest / first, growth):
        return longest
    return first * float(growth**level)
