"""A simulated month of a site: honest sign-ups, and nine attacks on top, against the real services.

``python -m tests.benchmarks.month`` runs it, once without the fraud guard and once
with it, and prints a table. The settings are the defaults, except that ``CALLS_TOTAL`` is lifted
without the guard: otherwise the attacks would stop each other. The clock is moved, nobody is
called, and the same seed gives the same month.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import logging
import math
import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

VOLLEY = 12
"""Calls with which an attacker tries to close a range; see `Month.closer`."""

PATIENCE = HOUR
"""Honest people who are told to wait come back in time, if it is no longer than this."""

RETURNS = 2
"""How often they come back."""

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
    delays: list[float] = field(default_factory=list)
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
    locked_victims: int = 15
    closing_a_day: int = 800
    closing_afresh_a_day: int = 200
    pumped_signups_a_day: int = 3
    closed_signups_a_day: int = 10


class Month:
    """A queue of people and attackers, each a generator that yields the time it waits."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.random = random.Random(seed)
        self.tallies: dict[str, Tally] = {}
        self._queue: list[tuple[datetime, int, Iterator[timedelta]]] = []
        self._numbers = itertools.count()
        self.retry_after: int | None = None
        """What the last refusal said."""

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
            self.retry_after = error.retry_after
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

    def ask(
        self, tally: Tally, number: str, ip: str, **kwargs: Any
    ) -> Generator[timedelta, None, Any]:
        """Ask for a call, and come back as told; return None where it stays refused."""
        waited = timedelta()
        for turn in range(1 + RETURNS):
            verification = self.call(tally, number, ip, **kwargs)
            if verification is not None:
                tally.delays.append(waited.total_seconds())
                return verification
            wait = timedelta(seconds=self.retry_after or 0)
            if turn == RETURNS or not wait or wait > PATIENCE:
                break
            wait += timedelta(seconds=self.random.random() * 60)
            waited += wait
            yield wait
        tally.refused += 1
        return None

    def person(
        self, name: str = "honest people", number: str = "", ip: str = "", **kwargs: Any
    ) -> Iterator[timedelta]:
        from django_flashcall import services

        tally = self.tally(name)
        tally.people += 1
        number = number or self.number()
        ip = ip or self.address()
        roll = self.random.random
        if roll() < 0.02:  # a digit mistyped: a stranger's phone rings
            wrong = self.call(tally, number[:-1] + str((int(number[-1]) + 1) % 10), ip)
            if wrong is not None:
                yield 1 * MINUTE
                services.cancel(wrong)
        verification = yield from self.ask(tally, number, ip, **kwargs)
        if verification is None:
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
            services.redeem(token, user=kwargs.get("user"))

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

    def closer(self, name: str, prefix: str, addresses: list[str]) -> Iterator[timedelta]:
        """Make a range look pumped: few calls to some of its numbers, that nobody completes."""
        tally = self.tally(name)
        numbers = self.numbers([prefix], self.random.choice([4, VOLLEY]))
        for turn in range(VOLLEY):
            ip = self.random.choice(addresses) if addresses else self.own_address()
            self.call(tally, numbers[turn % len(numbers)], ip)
            yield 2 * MINUTE

    def close(self, name: str, calls_a_day: int, addresses: list[str]) -> list[str]:
        """Attack as many ranges as a day's calls suffice for, the same again every third day."""
        volleys = calls_a_day // VOLLEY
        ranges = self.ranges(3 * volleys)
        for day in range(self.size.days):
            for n in range(volleys):
                at = START + (day + self.random.random()) * DAY
                prefix = ranges[(day * volleys + n) % len(ranges)]
                self.add(at, self.closer(name, prefix, addresses))
        return ranges

    def victim(self, number: str, kind: str) -> Iterator[timedelta]:
        """Verify a number before the attack begins, then come back daily."""
        from django.contrib.auth import get_user_model

        from django_flashcall import services

        home = self.own_address()
        kwargs: dict[str, Any] = {}
        if kind == "logged in":
            user = get_user_model()(username=number)
            user.set_unusable_password()
            user.save()
            kwargs["user"] = user
        tally = Tally()
        verification = self.call(tally, number, home, **kwargs)
        yield timedelta(seconds=30)
        token = self.check(tally, verification, self.last_code(number), home)
        self.redeem(token, **kwargs)
        if kind == "known device":
            kwargs["device"] = services.issue_device(number)
        for day in range(1, self.size.days):
            at = START + (day + self.random.random()) * DAY
            ip = self.address() if kind == "new device" else home
            self.add(at, self.person(f"victims, {kind}", number, ip, **kwargs))

    def last_code(self, number: str) -> str:
        from django_flashcall.backends.locmem import outbox

        return str(next(call.code for call in reversed(outbox) if call.phone == number))

    def redeem(self, token: str | None, **kwargs: Any) -> None:
        from django_flashcall import services

        services.redeem(token or "", **kwargs)

    def populate(self) -> None:
        """Put everybody of the month into the queue."""
        size, pick = self.size, self.random.choice
        share = size.days / 30
        for _ in range(size.signups_a_day * size.days):
            self.add(self.moment(), self.person())
        ranges = [self.ranges(count) for count in (5, 8, 5)]
        pumped = self.numbers(ranges[0], 60)
        addresses = [self.own_address() for _ in range(400)]
        for _ in range(int(size.pumped_calls * share)):
            self.add(self.anytime(), self.pumper("pumping", pick(pumped), pick(addresses)))
        slow = self.numbers(ranges[1], 40)
        for _ in range(size.slow_a_day * size.days):
            ip = self.own_address()
            self.add(self.anytime(), self.pumper("slow pumping", pick(slow), ip))
        own = self.numbers(ranges[2], 20)
        for _ in range(size.completing_a_day * size.days):
            ip = pick(addresses)
            self.add(self.anytime(), self.pumper("pumping, 60 % completed", pick(own), ip, 0.6))
        for _ in range(int(size.sprayed_numbers * share)):
            self.add(self.anytime(), self.sprayer(self.number(), pick(addresses)))
        for _ in range(size.pumped_signups_a_day * size.days):
            [number] = self.numbers([pick([*ranges[0], *ranges[1], *ranges[2]])], 1)
            self.add(self.moment(), self.person("honest, pumped ranges", number))
        # An address is good for five calls a day; a fresh one for each call is dearer.
        few = [self.own_address() for _ in range(size.closing_a_day // 5)]
        closed = self.close("closing ranges", size.closing_a_day, few)
        closed += self.close("closing, fresh addresses", size.closing_afresh_a_day, [])
        for _ in range(size.closed_signups_a_day * size.days):
            [number] = self.numbers([pick(closed)], 1)
            self.add(self.moment(), self.person("honest, closed ranges", number))
        for _ in range(size.brute_victims):
            self.add(START, self.brute(self.number()))
        for n in range(size.locked_victims):
            victim = self.number()
            self.add(START + n * MINUTE, self.victim(victim, VICTIMS[n % len(VICTIMS)]))
            self.add(START + 6 * HOUR, self.locker(victim))


def simulate(size: Size, guard: str, seed: int, progress: Any = None) -> dict[str, Tally]:
    """Run a month against the database that is set up; return what became of each group."""
    import time_machine
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.db.models import Count
    from django.db.models.functions import TruncDate
    from django.test import override_settings

    from django_flashcall import models
    from django_flashcall.backends.locmem import outbox

    for model in (
        models.GuardDecision,
        models.GuardRequest,
        models.Refusal,
        models.CallCount,
        models.Phone,
    ):
        model.objects.all().delete()
    get_user_model().objects.all().delete()
    logging.getLogger("django_flashcall").setLevel(logging.CRITICAL)
    month = Month(size, seed)
    month.populate()
    day = START

    def move_to(at: datetime) -> None:
        nonlocal day
        clock.move_to(at)
        del outbox[:-50]
        if progress is not None and at >= day:
            print(f"guard {guard}: day {(day - START).days + 1}", file=progress, flush=True)
            day += DAY

    changes: dict[str, Any] = {"FRAUD_GUARD": guard}
    if guard == "off":
        changes["CALLS_TOTAL"] = None
    with (
        override_settings(FLASHCALL={**settings.FLASHCALL, **changes}),
        time_machine.travel(START, tick=False) as clock,
    ):
        month.run(move_to)
    days = models.Call.objects.annotate(day=TruncDate("created_at")).values("day")
    worst = days.annotate(calls=Count("pk")).order_by("-calls").values_list("calls", flat=True)
    month.tally("worst day").placed = worst.first() or 0
    return month.tallies


PUMPING = ("pumping", "slow pumping", "pumping, 60 % completed")
ATTACKS = (*PUMPING, "guesses sprayed", "codes of victims guessed", "victims locked out")
ATTACKS += ("closing ranges", "closing, fresh addresses")
VICTIMS = ("new device", "known device", "logged in")
PEOPLE = ("honest people", "honest, pumped ranges", "honest, closed ranges")
PEOPLE += tuple(f"victims, {kind}" for kind in VICTIMS)


def report(without: dict[str, Tally], with_guard: dict[str, Tally]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{'attack':28}{'asked for':>10}{'no guard':>10}{'guard':>8}{'stopped':>9}{'guessed':>9}"
    for name in ATTACKS:
        off, on = without[name], with_guard[name]
        stopped = 1 - on.placed / off.placed
        row = f"{name:28}{on.asked:>10}{off.placed:>10}{on.placed:>8}{stopped:>9.1%}"
        yield f"{row}{on.guessed:>9}"
    yield ""
    yield f"{'people':28}{'people':>8}{'refused without':>17}{'with':>8}{'':8}{'median delay':>14}"
    for name in PEOPLE:
        off, on = without[name], with_guard[name]
        row = f"{name:28}{on.people:>8}{off.refused:>17}{on.refused:>8}"
        delay = statistics.median(on.delays) / 60 if on.delays else math.nan
        later = sum(wait > 0 for wait in on.delays)
        row += f"{on.refused / on.people:>8.2%}{delay:>10.1f} min"
        yield f"{row}  ({later} waited)"
    yield ""
    worst = (tallies["worst day"].placed for tallies in (without, with_guard))
    yield "calls on the worst day: {} without the guard, {} with it".format(*worst)
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
    os.environ.setdefault("TEST_DATABASE", "sqlite")
    import django
    from django.test.utils import setup_databases, teardown_databases

    django.setup()

    old = setup_databases(verbosity=0, interactive=False)
    try:
        size = Size(days=options.days)
        without, with_guard = (
            simulate(size, mode, options.seed, sys.stderr) for mode in ("off", "deny")
        )
        print("\n".join(report(without, with_guard)))
    finally:
        teardown_databases(old, verbosity=0)


if __name__ == "__main__":
    main()
