"""Verify thousands of numbers while the provider, the site, its workers and PostgreSQL fail.

``python -m tests.chaos`` runs a site in gunicorn on PostgreSQL, with the simulator as its provider,
once for each way to place calls: inline, from workers with the database as queue, and from workers
with Redis. Each time, people verify their numbers over HTTP, with the API and on the pages. A third
of the provider's answers hang, are reset, drip byte by byte or are garbage; web and task workers
are killed with SIGKILL at random; PostgreSQL is restarted twice, once as by a crash. Then the run
compares the database with the provider's own list. It ends with 1 if anything disagrees.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import django

os.environ["TEST_DATABASE"] = "postgres"  # for the processes of the site too
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import F  # noqa: E402
from django.test import override_settings  # noqa: E402

from django_flashcall.models import Call, QueuedCall, Verification  # noqa: E402
from django_flashcall.models.verifications import LONGEST_QUEUE  # noqa: E402
from django_flashcall.verification.dispatch import TAKEN_FOR  # noqa: E402
from tests.databases import restart_postgres  # noqa: E402
from tests.processes import free_port, wait_until  # noqa: E402
from tests.workers import NOBODY_LISTENS, redis  # noqa: E402

from .audit import Findings, audit  # noqa: E402
from .people import AppUser, PageVisitor, Person  # noqa: E402
from .provider import LOGIN, PASSWORD, Provider  # noqa: E402
from .site import TASK_KILLS, WEB_KILLS, Site, Workers, running_site  # noqa: E402

CLIENTS = 16
SECRET = "the-secret-in-the-url-of-reports-of-the-run"
MODES = {
    "inline": {"DISPATCH": "inline"},
    "database": {"DISPATCH": "task", "TASK_BACKEND": "default"},
    "redis": {"DISPATCH": "task", "TASK_BACKEND": "redis"},
}
SECONDS_AT_MOST = 2
"""For each person, and a hundred more; after that, everybody gives up."""

RESTARTS = ("immediate", "fast")
"""Modes of ``pg_ctl``, in turn: as after a crash, and as by an administrator."""


RESTARTED = "restarts of PostgreSQL"
DONE = (WEB_KILLS, TASK_KILLS, RESTARTED)


class Size(NamedTuple):
    """How much happens in each mode."""

    people: int
    kills: int
    restarts: int


FULL, SHORT = Size(2000, 40, 2), Size(20, 3, 1)


class Result(NamedTuple):
    """The figures of a mode, by their names in the table, what disagrees, and the people."""

    figures: dict[str, int]
    findings: Findings
    people: list[Person]

    @property
    def surprises(self) -> list[str]:
        return [words for person in self.people for words in person.surprises]

    @property
    def rows(self) -> dict[str, int]:
        return self.figures | {
            "not verified": sum(not person.is_verified for person in self.people),
            "**lost**": len(self.findings.lost),
            "**called twice**": len(self.findings.twice),
            "**verified without the right code**": len(self.findings.wrong_code),
            "**answered 500**": len(self.findings.errors),
        }

    @property
    def is_good(self) -> bool:
        return not (self.findings or self.surprises or self.rows["not verified"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute, for continuous integration")
    parser.add_argument("--count", type=int, help="people in each mode")
    parser.add_argument("--kills", type=int, help="killed processes in each mode")
    parser.add_argument("--only", choices=MODES, help="one mode")
    parser.add_argument("--seed", default="1", help="of faults, people and kills; not of threads")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no process behind
    size = SHORT if options.short else FULL
    if options.count:
        size = size._replace(people=options.count)
    if options.kills is not None:
        size = size._replace(kills=options.kills)
    results = {}
    for mode in [options.only] if options.only else MODES:
        results[mode] = run(mode, size, f"{options.seed}-{mode}")
    print_table(results)
    sys.exit(not all(result.is_good for result in results.values()))


def run(mode: str, size: Size, seed: str) -> Result:
    """Let everybody verify their number in one mode, settle what is left, and compare."""
    drops_duplicates = mode == "redis"
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = NOBODY_LISTENS
        if mode == "redis":
            url = stack.enter_context(redis(folder, free_port()))
        provider = stack.enter_context(
            Provider(seed, size.people * 20, drops_duplicates=drops_duplicates)
        )
        flashcall = settings_of(provider, drops_duplicates) | MODES[mode]
        stack.enter_context(override_settings(FLASHCALL=flashcall))
        with running_site(folder, settings.DATABASES["default"], flashcall, url) as site:
            provider.simulator.report_url = f"{site.url}phone/delivery-reports/default/{SECRET}/"
            numbers = itertools.count()

            def somebody() -> Person:
                number = next(numbers)
                kind = PageVisitor if number % 4 == 3 else AppUser
                return kind(site.url, number, seed, provider)

            people = [somebody() for _ in range(size.people)]
            done = verify_all(people, site, size, random.Random(seed), mode, begun)
            if site.workers is not None:
                finish_queue(site.workers, somebody, people)
            provider.finish_reports(60)
        settle()
        findings = audit(provider, people)
        if findings.errors:
            log = (folder / "gunicorn.log").read_text()
            print(log[log.find("Internal Server Error") :][:5000])
        figures = figures_of(provider, people) | {name: done[name] for name in DONE}
        call_command("flush", interactive=False, verbosity=0)
        connection.close()
    return Result(figures | {"seconds": round(time.monotonic() - begun)}, findings, people)


def settings_of(provider: Provider, drops_duplicates: bool) -> dict[str, Any]:
    """Return ``FLASHCALL`` for people who retry within seconds, each from one address."""
    options = {
        "url": provider.simulator.url,
        "login": LOGIN,
        "password": PASSWORD,
        "connect_timeout": 1,
        "timeout": 2,
        "duplicate_control": drops_duplicates,
    }
    path = "django_flashcall.backends.flashingcall.FlashingCallBackend"
    return {
        "BACKENDS": {"default": {"BACKEND": path, "OPTIONS": options}},
        "DELIVERY_REPORT_SECRETS": [SECRET],
        "TRUSTED_PROXIES": 1,
        "COOLDOWN": 1,
        "BREAKER_WAIT": 2,
        "CALLS_PER_PHONE": "1000/day",
        "CALLS_TOTAL": "1000000/day",
        "FRAUD_GUARD": "record",
    }


def figures_of(provider: Provider, people: list[Person]) -> dict[str, int]:
    answers = sum((person.answers for person in people), Counter())
    return {
        "people": len(people),
        "verifications": Verification.objects.count(),
        "calls placed by the provider": len(provider.simulator.calls),
        "calls that stay `unknown`": Call.objects.filter(status="unknown").count(),
        "reported calls": len(provider.reported),
        "answers of the site": sum(answers.values()) - answers[0, None],
        "answers 503": sum(n for (status, _), n in answers.items() if status == 503),
        "lost connections": answers[0, None],
    }


def verify_all(
    people: list[Person], site: Site, size: Size, rng: random.Random, mode: str, begun: float
) -> Counter[str]:
    """Let everybody verify their number, meanwhile kill and restart; count what was killed."""
    over = threading.Event()
    plan = [(size.people * (n + 1) / (size.kills + 1), "kill") for n in range(size.kills)]
    for n in range(size.restarts):
        plan.append((size.people * (n + 1) / (size.restarts + 1), RESTARTS[n % len(RESTARTS)]))
    plan.sort()
    done: Counter[str] = Counter()
    finished = shown = 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        stack.callback(over.set)  # before the pool waits for everybody
        futures: list[Future[None]] = [pool.submit(person.go, over) for person in people]
        while finished < len(people):
            over.wait(0.05)
            if time.monotonic() - begun > SECONDS_AT_MOST * (100 + size.people):
                over.set()  # whoever is not verified by now gave up
            finished = sum(future.done() for future in futures)
            while plan and plan[0][0] <= finished:
                _, how = plan.pop(0)
                if how == "kill":
                    done[site.kill(rng)] += 1
                else:
                    restart_postgres(how)
                    done[RESTARTED] += 1
            if finished * 10 // len(people) > shown:
                shown = finished * 10 // len(people)
                events = ", ".join(f"{n} {what}" for what, n in sorted(done.items()))
                seconds = time.monotonic() - begun
                print(f"{mode}: {finished} of {len(people)}, {seconds:.0f} s; {events}", flush=True)
        for future in futures:
            future.result()
    return done


def finish_queue(workers: Workers, somebody: Callable[[], Person], people: list[Person]) -> None:
    """Let workers place what is queued, and take over what was left a minute ago.

    The clock is moved, not waited for. As on a site, each new task takes over ten calls.
    """
    connection.close()  # the server was restarted
    workers.stop()
    older = timedelta(seconds=TAKEN_FOR + 1)
    QueuedCall.objects.update(created_at=F("created_at") - older, taken_at=F("taken_at") - older)
    workers.start()
    over = threading.Event()
    for _ in range(2 + QueuedCall.objects.count() // 10):
        latecomer = somebody()
        people.append(latecomer)
        latecomer.go(over)
    with contextlib.suppress(AssertionError):  # what is left is lost
        wait_until(lambda: not QueuedCall.objects.exists(), "The queue is not empty")


def settle() -> None:
    """Let time pass, and do what a site does every night."""
    connection.close()
    queued = Call.objects.filter(status=Call.Status.QUEUED)
    queued.update(created_at=F("created_at") - LONGEST_QUEUE)
    call_command("flashcall_prune", stdout=io.StringIO())


def print_table(results: dict[str, Result]) -> None:
    columns = [result.rows for result in results.values()]
    print("\n| | " + " | ".join(results) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{rows[name]:,}" for rows in columns) + " |")
    for mode, result in results.items():
        for kind, found in vars(result.findings).items():
            for words in found[:20]:
                print(f"{mode}: {kind}: {words}")
        for words in result.surprises[:20]:
            print(f"{mode}: not expected: {words}")


if __name__ == "__main__":
    main()
