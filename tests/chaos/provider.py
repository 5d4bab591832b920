"""The provider of the run: the simulator, with faults, ringing phones and delivery reports."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

from django_flashcall.simulator import STEERING, Account, Answer, PlacedCall, Simulator

LOGIN, PASSWORD = "site", "pa55word-of-the-site"

# The simulator's own faulty answers, by the endings that select them.
FAULTS = {
    "hang": ["9920"],
    "reset": ["9921"],
    "drip": ["9922", "9923"],
    "garbage": ["9924", "9925", "9926", "9931", "9932", "9933", "9934", "9935"],
}
COMPLETE = {"9923"}
"""Faults after which the site may read a success, so that the phone must ring."""

DRIP = 0.02
"""Seconds between two bytes: a dripped body arrives in time, dripped headers do not."""


def answers(rng: random.Random) -> Iterator[Answer]:
    """Yield answers without end: a third of them faults, and a few errors among the others."""
    while True:
        if rng.random() < 1 / 3:
            ending = rng.choice(FAULTS[rng.choice(list(FAULTS))])
            rings = ending in COMPLETE or rng.random() < 0.5
            yield replace(STEERING[ending][0], rings=rings)
            continue
        match rng.random():
            case x if x < 0.04:
                yield Answer.error(rng.choice([1, 3]))
            case x if x < 0.06:
                yield Answer.error(8)
            case x if x < 0.08:
                yield replace(Answer.error(100), rings=rng.random() < 0.5)
            case x if x < 0.14:
                yield Answer(outcome=(5, 16))  # busy: nobody hears it
            case _:
                yield Answer()


class Provider:
    """The simulator, what each phone hears, and the reports about a third of the calls.

    Like the provider, it posts a report again until it gets 200.

    Args:
        seed: of the answers.
        requests: how many of them are prepared.
        drops_duplicates: whether the account has duplicate control.
    """

    def __init__(self, seed: str, requests: int, *, drops_duplicates: bool) -> None:
        account = Account(LOGIN, PASSWORD, duplicate_control=drops_duplicates)
        self.simulator = Simulator([account], drip=DRIP)
        prepared = answers(random.Random(seed))
        self.simulator.script(*(next(prepared) for _ in range(requests)))
        self.reported: dict[str, str] = {}
        """Our identifier of a call → its final status in a report that got 200."""
        self.answers: Counter[int | None] = Counter()
        self._heard: dict[str, list[PlacedCall]] = defaultdict(list)
        self._rings = threading.Condition()
        self._over = threading.Event()
        self._reporters = ThreadPoolExecutor(8)

    def __enter__(self) -> Self:
        self.simulator.start()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._listener.join()
        self._reporters.shutdown(cancel_futures=True)
        self.simulator.stop()

    def hear(self, number: str, after: int, seconds: float) -> list[PlacedCall]:
        """Return the calls that a phone has rung for, once there are more than `after`."""
        with self._rings:
            self._rings.wait_for(lambda: len(self._heard[number]) > after, seconds)
            return list(self._heard[number])

    def finish_reports(self, seconds: float) -> None:
        """Wait until all reports have got 200; give up after a time."""
        watchdog = threading.Timer(seconds, self._over.set)
        watchdog.start()
        while self._noticed < len(self.simulator.calls) and not self._over.is_set():
            time.sleep(0.05)
        self._reporters.shutdown()
        watchdog.cancel()

    _noticed = 0

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                call = self.simulator.wait_for_call(self._noticed + 1, timeout=0.2)
            except TimeoutError:
                continue
            if call.reached:
                with self._rings:
                    self._heard[call.number].append(call)
                    self._rings.notify_all()
            rng = random.Random(call.mt_num)
            if rng.random() < 1 / 3:
                self._reporters.submit(self._report, call, rng.choice([0, 0.5, 2]))
            self._noticed += 1

    def _report(self, call: PlacedCall, delay: float) -> None:
        self._over.wait(delay)
        final = (2, 0) if call.reached else (5, 16)
        for status, error_code in [(0, 0), final]:
            while not self._over.is_set():
                answer = self.simulator.report(call, status, error_code)
                self.answers[answer] += 1
                if answer == 200:
                    break
                self._over.wait(0.2)
            else:
                return
        self.reported[call.id] = "delivered" if call.reached else "undelivered"
