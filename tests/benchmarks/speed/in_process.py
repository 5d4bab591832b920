"""Measures operations inside one process: Django's test client, through middleware and views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean, quantiles
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from .operations import Operation, Request, complete_busy_calls

WARM_UP = 5
SLOW_ROUNDS = 5
DATA = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "(")
"""How data statements begin, unlike BEGIN, SAVEPOINT and the like."""


class Meter:
    """The measurements of one operation."""

    def __init__(self, operation: Operation, rounds: int, batch: int, *, is_slow: bool) -> None:
        self.operation = operation
        self.rounds, self.batch = (min(rounds, SLOW_ROUNDS), 1) if is_slow else (rounds, batch)
        self.requests = iter(operation.prepare(self.rounds * self.batch + WARM_UP + 1))
        self.cpu: list[float] = []
        """Milliseconds of CPU time of one request, for each batch."""
        self.wall: list[float] = []
        """Milliseconds of each request."""
        self.statements = 0

    def warm_up(self, client: Client) -> None:
        for _ in range(WARM_UP - 1):
            send(client, next(self.requests))
        found = []
        for _ in range(2):  # the first call of an hour makes the rows that count its calls
            with CaptureQueriesContext(connection) as captured:
                send(client, next(self.requests))
            found.append(sum(query["sql"].startswith(DATA) for query in captured))
        self.statements = min(found)

    def run(self, client: Client) -> None:
        """Send the next batch, if there is one more."""
        if len(self.cpu) == self.rounds:
            return
        begun = time.process_time()
        for _ in range(self.batch):
            sent = time.perf_counter()
            send(client, next(self.requests))
            self.wall.append((time.perf_counter() - sent) * 1000)
        self.cpu.append((time.process_time() - begun) * 1000 / self.batch)

    def result(self) -> dict[str, Any]:
        percent = quantiles(self.wall, n=100, method="inclusive")
        return {
            "package": self.operation.package,
            "operation": self.operation.name,
            "requests": len(self.wall),
            "cpu_ms": spread(self.cpu),
            "wall_ms": {"p50": percent[49], "p99": percent[98], "mean": mean(self.wall)},
            "statements": self.statements,
        }


def measure(
    operations: Sequence[Operation], rounds: int, batch: int, slow: Sequence[Operation] = ()
) -> list[dict[str, Any]]:
    """Send batches of every operation in turn, so that a slow minute of the machine hits all.

    Args:
        operations: what to measure.
        rounds: number of batches.
        batch: number of requests of one.
        slow: operations that take too long for so many requests.
    """
    client = Client()
    meters = [Meter(each, rounds, batch, is_slow=each in slow) for each in operations]
    for meter in meters:
        meter.warm_up(client)
    for _ in range(rounds):
        for meter in meters:
            meter.run(client)
        complete_busy_calls()
    return [meter.result() for meter in meters]


def send(client: Client, request: Request) -> None:
    response = client.generic(
        request.method,
        request.path,
        request.body,
        content_type="application/json",
        headers={"X-Forwarded-For": request.ip},
    )
    if response.status_code != request.status:
        raise RuntimeError(f"{request} got {response.status_code}: {response.content!r}")


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    if len(values) == 1:
        values = values * 2
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high}
