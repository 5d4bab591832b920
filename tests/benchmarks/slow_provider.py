"""What a site feels of a provider that does not respond, and of one that takes its time.

``python -m tests.benchmarks.slow_provider`` prints two tables, in some three minutes:

*A provider that never responds.* 40 visitors start at once while four others use the rest of the
site, with the bulkhead and without it.

*A provider that takes two seconds.* One visitor starts again and again, inline and with workers,
beside a provider that takes five milliseconds; the two take turns.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import requests

from tests import databases, raw_server
from tests.processes import environment_of
from tests.web_server import PROCESSES, THREADS, gunicorn
from tests.workers import start_worker

BACKEND = "django_flashcall.backends.flashingcall.FlashingCallBackend"
STARTING = 40
OTHERS = 4
SLOW, FAST = 2.0, 0.005  # seconds
ROUNDS, BATCH = 5, 6
numbers = itertools.count()


def site(url: str, **keys: Any) -> dict[str, Any]:
    """Return ``FLASHCALL`` with the provider of an address."""
    options = {"url": url, "login": "site", "password": "password"}
    return {
        "BACKENDS": {"default": {"BACKEND": BACKEND, "OPTIONS": options}},
        "TRUSTED_PROXIES": 1,
        **keys,
    }


def start(port: int) -> tuple[float, int]:
    """Start for a new number from a new address; return the seconds and the status."""
    number = next(numbers)
    begun = time.perf_counter()
    response = requests.post(
        f"http://127.0.0.1:{port}/api/verifications/",
        json={"phone": f"+7916{number % 1000:03d}{number // 1000:04d}"},
        headers={"X-Forwarded-For": f"10.{number // 250}.{number % 250}.1"},
    )
    return time.perf_counter() - begun, response.status_code


def browse(port: int, is_over: threading.Event) -> list[float]:
    """Use the rest of the site until it is over; return the seconds of each request."""
    found = []
    while not is_over.is_set():
        begun = time.perf_counter()
        requests.get(f"http://127.0.0.1:{port}/admin/login/").raise_for_status()
        found.append(time.perf_counter() - begun)
        is_over.wait(0.05)
    return found


def never_responding(folder: Path, database: dict[str, Any]) -> None:
    print(f"\n{STARTING} starts at once, {PROCESSES} processes of {THREADS} threads, seconds\n")
    print("| MAX_CALLS_IN_FLIGHT | called | refused | slowest start | other requests | slowest |")
    print("| --- | --- | --- | --- | --- | --- |")

    def behave(server: raw_server.Server, connection: Any) -> None:
        server.read(connection)
        server.stop.wait()

    for places in (STARTING, 4):
        with raw_server.Server(behave) as silent:
            flashcall = site(silent.url, MAX_CALLS_IN_FLIGHT=places, BREAKER_FAILURES=0)
            with gunicorn(folder, database, flashcall) as port:
                is_over = threading.Event()
                with ThreadPoolExecutor(STARTING + OTHERS) as pool:
                    browsing = [pool.submit(browse, port, is_over) for _ in range(OTHERS)]
                    time.sleep(1)
                    starts = list(pool.map(start, [port] * STARTING))
                    is_over.set()
                    seconds = [second for one in browsing for second in one.result()]
        statuses = [status for _, status in starts]
        slowest = max(seconds for seconds, _ in starts)
        print(
            f"| {places} | {statuses.count(201)} | {statuses.count(503)} | {slowest:.1f} "
            f"| {len(seconds)} | {max(seconds):.2f} |",
            flush=True,
        )


@contextlib.contextmanager
def workers(folder: Path, database: dict[str, Any], flashcall: dict[str, Any]) -> Iterator[None]:
    """Run as many workers as web processes."""
    environment = environment_of(database, flashcall)
    with contextlib.ExitStack() as stack:
        for _ in range(PROCESSES):
            worker = start_worker("default", environment, folder / "worker.log")
            stack.callback(worker.wait)
            stack.callback(worker.kill)
        yield


def taking_its_time(folder: Path, database: dict[str, Any]) -> None:
    print(f"\n{ROUNDS * BATCH} starts, median in milliseconds\n")
    print("| DISPATCH | provider takes 2 s | provider takes 5 ms | ratio |")
    print("| --- | --- | --- | --- |")
    delay = FAST

    def behave(server: raw_server.Server, connection: Any) -> None:
        while server.read(connection):
            server.stop.wait(delay)
            connection.sendall(raw_server.answer(b'{"mtNum": "1"}'))

    for dispatch in ("inline", "task"):
        found: dict[float, list[float]] = {SLOW: [], FAST: []}
        with raw_server.Server(behave) as provider:
            flashcall = site(provider.url, DISPATCH=dispatch, CODE_TTL=300)
            with (
                gunicorn(folder, database, flashcall) as port,
                workers(folder, database, flashcall),
            ):
                for _ in range(2 * PROCESSES):
                    start(port)
                for _ in range(ROUNDS):
                    for delay in found:
                        for _ in range(BATCH):
                            seconds, status = start(port)
                            if status != 201:
                                raise RuntimeError(f"A start got {status}.")
                            found[delay].append(seconds * 1000)
                            time.sleep(0.1)
        slow, fast = median(found[SLOW]), median(found[FAST])
        print(f"| {dispatch} | {slow:.0f} | {fast:.0f} | {slow / fast:.2f} |", flush=True)


if __name__ == "__main__":
    os.environ["TEST_DATABASE"] = "postgres"  # for the processes of the site too
    chosen = databases.chosen()
    with tempfile.TemporaryDirectory() as folder:
        never_responding(Path(folder), chosen)
        taking_its_time(Path(folder), chosen)
