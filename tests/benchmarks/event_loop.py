"""How late an event loop is while 50 calls wait for a slow provider.

``python -m tests.benchmarks.event_loop`` serves a site with async views by uvicorn, with
PostgreSQL. A task in the event loop sleeps for 5 milliseconds again and again, and notes by how
much each sleep is too long. 50 people start at once, again and again, by `astart` and by the API;
the phases are an idle loop, the beginning of the starts, and the time in which calls wait. It takes
some two minutes.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import requests

from tests import databases, raw_server
from tests.web_server import UVICORN, patient, serve

PEOPLE = 50
ROUNDS = 5
WAITING = 2.0  # seconds that are measured
numbers = itertools.count()


class Provider(raw_server.Server):
    """Responds to all calls at once, when it is told to."""

    def __init__(self) -> None:
        super().__init__(self.wait)
        self.respond = threading.Event()

    def wait(self, server: raw_server.Server, connection: Any) -> None:
        self.read(connection)
        self.respond.wait()
        connection.sendall(raw_server.answer())


def start(url: str) -> int:
    """Start for a new number from a new address; return the status."""
    number = next(numbers)
    phone = f"+7916{number % 1000:03d}{number // 1000:04d}"
    given: dict[str, Any] = {"data" if "async" in url else "json": {"phone": phone}}
    address = f"10.{number // 250}.{number % 250}.1"
    return requests.post(url, headers={"X-Forwarded-For": address}, **given).status_code


def measure(site: str, path: str, places: int, provider: Provider) -> Iterator[tuple[str, Any]]:
    """Start 50 calls at once, and yield how late the loop is in each phase."""

    def lags() -> list[float]:
        return [lag * 1000 for lag in requests.get(f"{site}async/beats/").json()["lags"]]

    lags()
    time.sleep(WAITING)
    yield "idle", lags()
    provider.respond.clear()
    provider.requests.clear()
    with ThreadPoolExecutor(PEOPLE) as pool:
        starts = [pool.submit(start, site + path) for _ in range(PEOPLE)]
        while len(provider.requests) + sum(one.done() for one in starts) < PEOPLE:
            time.sleep(0.01)
        yield "begin", lags()
        time.sleep(WAITING)
        yield "wait", lags()
        provider.respond.set()
    statuses = [one.result() for one in starts]
    if statuses.count(201) != places or statuses.count(503) != PEOPLE - places:
        raise RuntimeError(f"The starts got {statuses}.")


def main() -> None:
    os.environ["TEST_DATABASE"] = "postgres"  # for the processes of the site too
    chosen = databases.chosen()
    print("| calls that wait | started by | phase | median ms | p99 ms | longest ms | p99 / idle |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for places, path in itertools.product((PEOPLE, 4), ("async/call/", "api/verifications/")):
        found: dict[str, list[float]] = {}
        limits = {"MAX_CALLS_IN_FLIGHT": places, "CALLS_TOTAL": None, "TRUSTED_PROXIES": 1}
        with tempfile.TemporaryDirectory() as folder, Provider() as provider:
            flashcall = {**patient(provider.url), **limits}
            urls = "tests.async_site"
            with serve(UVICORN, Path(folder), chosen, flashcall, ROOT_URLCONF=urls) as port:
                site = f"http://127.0.0.1:{port}/"
                for _ in range(ROUNDS):
                    for phase, lags in measure(site, path, places, provider):
                        found.setdefault(phase, []).extend(lags)
        idle = quantiles(found["idle"], n=100)[98]
        for phase, lags in found.items():
            p99 = quantiles(lags, n=100)[98]
            row = f"{median(lags):.1f} | {p99:.1f} | {max(lags):.1f} | {p99 / idle:.1f}"
            print(f"| {places} | {path} | {phase} | {row} |", flush=True)


if __name__ == "__main__":
    main()
