"""A simulated month of a site: honest sign-ups, and six attacks on top, against the real services.

``python -m tests.benchmarks.month`` runs it on PostgreSQL, once without the fraud guard and once
with it, with the default settings, and prints a table. The clock is moved, nobody is called, and
the same seed gives the same month.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

RHYTHM = [1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 10, 9, 9, 9, 10, 11, 12, 12, 10, 7, 4, 2]
"""How many people sign up in each hour of a day, in proportion."""

CODES = ["900", "902", "903", "905", "906", "909", "910", "912", "915", "916", "917", "919", "920"]
CODES += ["921", "922", "925", "926", "927", "929", "950", "951", "960", "961", "962", "963", "964"]
"""Codes of Russian mobile networks, in which the honest numbers lie at random."""


@dataclass
class Tally:
    """What became of one group."""

    asked: int = 0
    placed: int = 0
    people: int = 0
    refused: int = 0
    guessed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Size:
    """How much of everything happens, the defaults in a month of the issue's size."""

    days: int = 30
    signups_a_day: int = 150
    pumped_calls: int = 10_000
    slow_a_day: int = 80
    completing_a_day: int = 100
    sprayed_numbers: int = 3_000
    brute_victims: int = 5
    locked_victims: int = 5


class Month:
    """A queue of people and attackers, each a generator that yields the time it waits."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.random = random.Random(seed)
        self.tallies: dict[str, Tally] = {}
        self._queue: list[tuple[datetime, int, Iterator[timedelta]]] = []
        self._numbers = itertools.count()

    def add(self, at: datetime, actor: Iterator[timedelta]) -> None:
        heapq.heappush(self._queue, (at, next(self._numbers), actor))

    def run(self, move_to: Callable[[datetime], Any]) -> None:
        end = START + self.size.days * DAY
        while self._queue:
            at, number, actor = heapq.heappop(self._queue)
            if at >= end:
                continue
            move_to(at)
            wait = next(actor, None)
            if wait is not None:
                heapq.heappush(self._queue, (at + wait, number, actor))

    # Where and when

    def number(self, code: str | None = None) -> str:
        code = code or self.random.choice(CODES)
        return f"+7{code}{self.random.randrange(10**7):07d}"

    def ranges(self, count: int) -> list[str]:
        return [self.number()[:-4] for _ in range(count)]

    def numbers(self, ranges: list[str], each: int) -> list[str]:
        return [f"{p}{self.random.randrange(10**4):04d}" for p in ranges for _ in range(each)]

    def address(self) -> str:
        kind = self.random.random()
        if kind < 0.3:  # behind the one address of a mobile network, with many others
            return f"100.64.0.{self.random.randrange(50)}"
        if kind < 0.4:
            return f"2001:db8:{self.random.randrange(65536):x}:{self.random.randrange(65536):x}::1"
        return self.own_address()

    def own_address(self) -> str:
        return ".".join(str(self.random.randrange(1, 224)) for _ in range(4))

    def moment(self) -> datetime:
        hour = self.random.choices(range(24), RHYTHM)[0]
        day = self.random.randrange(self.size.days)
        return START + day * DAY + hour * HOUR + self.random.random() * HOUR

    def anytime(self) -> datetime:
        return START + self.random.random() * self.size.days * DAY

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())

    # What they do

    def call(self, tally: Tally, number: str, ip: str, **kwargs: Any) -> Any:
        """Ask for a call; None where it is refused."""
        from django_flashcall import services
        from django_flashcall.exceptions import FlashcallError

        tally.asked += 1
        try:
            verification = services.start(number, ip=ip, **kwargs)
        except FlashcallError as error:
            tally.reasons[f"{error.error_code} {error.scope}".strip()] += 1
            return None
        tally.placed += 1
        return verification

    def resend(self, tally: Tally, verification: Any, ip: str) -> bool:
        from django_flashcall import services
        from django_flashcall.exceptions import FlashcallError

        tally.asked += 1
        try:
            services.resend(verification, ip=ip)
        except FlashcallError as error:
            tally.reasons[f"{error.error_code} {error.scope}".strip()] += 1
            return False
        tally.placed += 1
        return True

    def check(self, tally: Tally, verification: Any, code: str, ip: str) -> str | None:
        """Try a code; return the token, '' for a wrong code, None where it is refused."""
        from django_flashcall import services
        from django_flashcall.exceptions import FlashcallError, WrongCode

        try:
            return services.check(verification, code, ip=ip)
        except WrongCode:
            return ""
        except FlashcallError as error:
            tally.reasons[f"{error.error_code} {error.scope}".strip()] += 1
            return None

    def code(self) -> str:
        from django_flashcall.backends.locmem import outbox

        return str(outbox[-1].code)

    def guess(self) -> str:
        return f"{self.random.randrange(10**4):04d}"

    # Honest people

    def person(self, name: str = "honest people", number: str = "") -> Iterator[timedelta]:
        from django_flashcall import services

        tally = self.tally(name)
        tally.people += 1
        number = number or self.number()
        ip = self.address()
        roll = self.random.random
        if roll() < 0.02:  # a digit mistyped: a stranger's phone rings
            wrong = self.call(tally, number[:-1] + str((int(number[-1]) + 1) % 10), ip)
            if wrong is not None:
                yield 1 * MINUTE
                services.cancel(wrong)
        verification = self.call(tally, number, ip)
        if verification is None:
            tally.refused += 1
            return
        code = self.code()
        if roll() < 0.1:  # the call was missed, or did not come
            yield timedelta(seconds=70)
            if not self.resend(tally, verification, ip):
                tally.refused += 1
                return
            code = self.code()
        if roll() < 0.12:  # gives up
            return
        yield timedelta(seconds=10 + 30 * roll())
        if roll() < 0.05:
            self.check(tally, verification, self.guess(), ip)
        token = self.check(tally, verification, code, ip)
        if token is None:
            tally.refused += 1
        elif token and roll() < 0.93:
            yield timedelta(seconds=20 + 100 * roll())
            services.redeem(token)

    # Attackers

    def pumper(self, name: str, number: str, ip: str, completes: float = 0) -> Iterator[timedelta]:
        tally = self.tally(name)
        verification = self.call(tally, number, ip)
        if verification is not None and self.random.random() < completes:
            code = self.code()
            yield timedelta(seconds=20)
            self.check(tally, verification, code, ip)

    def sprayer(self, number: str, ip: str) -> Iterator[timedelta]:
        tally = self.tally("guesses sprayed")
        verification = self.call(tally, number, ip)
        if verification is None:
            return
        for _ in range(3):
            yield timedelta(seconds=2)
            if self.check(tally, verification, self.guess(), ip):
                tally.guessed += 1
                return

    def brute(self, number: str) -> Iterator[timedelta]:
        tally = self.tally("codes of victims guessed")
        while True:
            ip = self.own_address()
            verification = self.call(tally, number, ip)
            if verification is not None:
                for _ in range(3):
                    if self.check(tally, verification, self.guess(), ip):
                        tally.guessed += 1
            yield HOUR

    def locker(self, number: str) -> Iterator[timedelta]:
        tally = self.tally("victims locked out")
        while True:
            ip = self.own_address()
            verification = self.call(tally, number, ip)
            if verification is not None:
                self.check(tally, verification, self.guess(), ip)
            yield HOUR

    def populate(self) -> None:
        """Put everybody of the month into the queue."""
        size, pick = self.size, self.random.choice
        share = size.days / 30
        for _ in range(size.signups_a_day * size.days):
            self.add(self.moment(), self.person())
        pumped = self.numbers(self.ranges(5), 60)
        addresses = [self.own_address() for _ in range(400)]
        for _ in range(int(size.pumped_calls * share)):
            self.add(self.anytime(), self.pumper("pumping", pick(pumped), pick(addresses)))
        slow = self.numbers(self.ranges(8), 40)
        for _ in range(size.slow_a_day * size.days):
            ip = self.own_address()
            self.add(self.anytime(), self.pumper("slow pumping", pick(slow), ip))
        own = self.numbers(self.ranges(5), 20)
        for _ in range(size.completing_a_day * size.days):
            ip = pick(addresses)
            self.add(self.anytime(), self.pumper("pumping, 60 % completed", pick(own), ip, 0.6))
        for _ in range(int(size.sprayed_numbers * share)):
            self.add(self.anytime(), self.sprayer(self.number(), pick(addresses)))
        for _ in range(size.brute_victims):
            self.add(START, self.brute(self.number()))
        for _ in range(size.locked_victims):
            victim = self.number()
            self.add(START + 6 * HOUR, self.locker(victim))
            for day in range(1, size.days):
                at = START + day * DAY + self.random.random() * DAY
                self.add(at, self.person("their victims themselves", victim))


def simulate(size: Size, guard: str, seed: int) -> dict[str, Tally]:
    """Run a month against the database that is set up; return what became of each group."""
    import time_machine
    from django.conf import settings
    from django.test import override_settings

    from django_flashcall import models
    from django_flashcall.backends.locmem import outbox

    for model in (models.GuardDecision, models.Refusal, models.CallCount, models.Phone):
        model.objects.all().delete()
    logging.getLogger("django_flashcall").setLevel(logging.CRITICAL)
    month = Month(size, seed)
    month.populate()

    def move_to(at: datetime) -> None:
        clock.move_to(at)
        del outbox[:-1]

    with (
        override_settings(FLASHCALL={**settings.FLASHCALL, "FRAUD_GUARD": guard}),
        time_machine.travel(START, tick=False) as clock,
    ):
        month.run(move_to)
    return month.tallies


ATTACKS = ("pumping", "slow pumping", "pumping, 60 % completed", "guesses sprayed")
ATTACKS += ("codes of victims guessed", "victims locked out")


def report(without: dict[str, Tally], with_guard: dict[str, Tally]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{'attack':28}{'asked for':>10}{'no guard':>10}{'guard':>8}{'stopped':>9}{'guessed':>9}"
    for name in ATTACKS:
        off, on = without[name], with_guard[name]
        stopped = 1 - on.placed / off.placed
        row = f"{name:28}{on.asked:>10}{off.placed:>10}{on.placed:>8}{stopped:>9.1%}"
        yield f"{row}{on.guessed:>9}"
    yield ""
    yield f"{'people':28}{'people':>10}{'refused without':>17}{'refused with':>14}"
    for name in ("honest people", "their victims themselves"):
        off, on = without[name], with_guard[name]
        row = f"{name:28}{on.people:>10}{off.refused:>17}{on.refused:>8}"
        yield f"{row}{on.refused / on.people:>8.2%}"
    yield ""
    for name, tally in with_guard.items():
        if tally.reasons:
            yield f"{name}: " + ", ".join(f"{n} {why}" for why, n in tally.reasons.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    os.environ.setdefault("TEST_DATABASE", "postgres")
    import django
    from django.test.utils import setup_databases, teardown_databases

    django.setup()

    old = setup_databases(verbosity=0, interactive=False)
    try:
        size = Size(days=options.days)
        without, with_guard = (simulate(size, mode, options.seed) for mode in ("off", "deny"))
        print("\n".join(report(without, with_guard)))
    finally:
        teardown_databases(old, verbosity=0)


if __name__ == "__main__":
    main()
