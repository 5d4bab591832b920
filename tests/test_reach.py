"""What the documentation promises of guessing, tried against the real services."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import time_machine

from django_flashcall import services
from django_flashcall.exceptions import FlashcallError, WrongCode

START = datetime(2026, 3, 2, tzinfo=UTC)
NUMBER = "+79161234567"
AT_ONCE = 5
"""Verifications that can live at once: one a minute (COOLDOWN), five minutes each (CODE_TTL)."""
COOLDOWN = 60


class Guesser:
    """Opens as many verifications of a number as can live at once, then guesses at all of them.

    That is the best that can be done: a wait lets each verification have one more guess only if it
    had none yet, and forbids calls. Every request comes from another address, and no guess is ever
    right.
    """

    def __init__(self, outbox, clock):
        self.outbox, self.clock = outbox, clock
        self.addresses = (f"203.0.{n // 256}.{n % 256}" for n in count())
        self.guesses = []

    def run(self, until):
        while datetime.now(UTC) < until:
            for verification, code in self.open():
                self.guess_at(verification, "0000" if code != "0000" else "1111")

    def open(self):
        opened = []
        while len(opened) < AT_ONCE:
            try:
                verification = services.start(NUMBER, ip=next(self.addresses))
            except FlashcallError as error:
                if not opened:
                    self.clock.shift(error.retry_after)
                elif error.retry_after <= COOLDOWN:
                    self.clock.shift(error.retry_after)
                    continue
                break
            opened.append((verification, self.outbox[-1].code))
        return opened

    def guess_at(self, verification, wrong):
        while True:
            try:
                services.check(verification, wrong, ip=next(self.addresses))
            except WrongCode:
                self.guesses.append(datetime.now(UTC))
            except FlashcallError:
                break


@pytest.mark.django_db(transaction=True)
def test_guesses_at_one_number(configure, outbox):
    configure(CALLS_TOTAL=None)  # its calls are not what is counted here
    with time_machine.travel(START, tick=False) as clock:
        guesser = Guesser(outbox, clock)
        guesser.run(START + timedelta(days=5))
    days = Counter((at - START).days for at in guesser.guesses)
    assert [days[day] for day in range(5)] == [14, 5, 5, 5, 5]


SAID = Path(__file__).parent.parent / "docs" / "explanation" / "security.md"


def test_the_page_on_security_says_so():
    assert "14 guesses on the first day and 5 on each later one" in SAID.read_text()
