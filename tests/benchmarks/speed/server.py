"""Measures requests per second through gunicorn, with wrk as its visitors."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import connection

from .in_process import spread
from .operations import Operation, Request, nothing

WORKERS = 2
RESERVE = 9
"""Requests to prepare, for each one that a single visitor would send: they are enough for all."""
WARM_UP = 20
SCRIPT = Path(__file__).with_name("requests.lua")


def measure(
    operations: Sequence[Operation],
    connections: Sequence[int],
    seconds: int,
    repeats: int,
    refill: Callable[[], None],
    prepared: bool = True,
) -> list[dict[str, Any]]:
    """Measure every operation with every number of connections, in turn, several times.

    Args:
        operations: what to measure.
        connections: numbers of connections.
        seconds: how long one measurement takes.
        repeats: how many there are.
        refill: fills the tables anew; called before each round, because the requests add rows.
        prepared: with the recommended options of PostgreSQL; else with Django's defaults.
    """
    if shutil.which("wrk") is None:
        print("wrk is not installed: nothing is measured through a web server.")
        return []
    measured = [operation for operation in operations if operation.in_server]
    runs: dict[tuple[Operation, int], list[dict[str, Any]]] = {}
    with gunicorn(prepared=prepared) as port, tempfile.TemporaryDirectory() as folder:
        for operation in measured:
            send(port, operation.prepare(WARM_UP))
        rates = {op: WARM_UP / send(port, op.prepare(WARM_UP)) for op in measured}
        for _ in range(repeats):
            for number in connections:
                refill()
                for operation in measured:
                    count = round(RESERVE * rates[operation] * seconds) + number
                    requests = operation.prepare(500 if operation.repeats else count)
                    file = write(requests, Path(folder, "requests"))
                    settle(port)
                    run = wrk(port, file, number, seconds, again=operation.repeats)
                    expected = run["requests"] if requests[0].status >= 400 else 0
                    if abs(run["refused"] - expected) > number:
                        raise RuntimeError(f"{operation.package}, {operation.name}: {run}")
                    runs.setdefault((operation, number), []).append(run)
    return [
        {
            "package": operation.package,
            "operation": operation.name,
            "connections": number,
            "per_second": spread([run["requests"] / run["seconds"] for run in found]),
            "p50_ms": spread([run["p50_ms"] for run in found]),
            "p99_ms": spread([run["p99_ms"] for run in found]),
            "refused": sum(run["refused"] for run in found),
            "lost": sum(run["lost"] for run in found),
        }
        for (operation, number), found in runs.items()
    ]


@contextlib.contextmanager
def gunicorn(*, prepared: bool) -> Iterator[int]:
    """Run gunicorn on a free port, with the settings of this process; see `measure`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--bind"]
    command += [f"127.0.0.1:{port}", "--log-level", "error"]
    environment = os.environ if prepared else {**os.environ, "DJANGOS_DEFAULTS": "1"}
    command.append("django.core.wsgi:get_wsgi_application()")
    server = subprocess.Popen(command, env=environment)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("gunicorn did not start.") from None
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def send(port: int, requests: list[Request]) -> float:
    """Send one request after the other, see that they succeed, and return the seconds."""
    begun = time.perf_counter()
    for request in requests:
        client = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "application/json", "X-Forwarded-For": request.ip}
        client.request(request.method, request.path, request.body or None, headers)
        response = client.getresponse()
        if response.status != request.status:
            raise RuntimeError(f"{request} got {response.status}: {response.read()!r}")
        client.close()
    return time.perf_counter() - begun


def write(requests: list[Request], file: Path) -> Path:
    lines = (f"{r.method}\t{r.path}\t{r.ip}\t{r.body}\n" for r in requests)
    file.write_text("".join(lines))
    return file


def settle(port: int) -> None:
    """Wait for the requests that the last run left, and write to the disk what it stored."""
    send(port, nothing(WORKERS))
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")


def wrk(port: int, file: Path, connections: int, seconds: int, *, again: bool) -> dict[str, Any]:
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration"]
    command += [f"{seconds}s", "--timeout", "30s", "--script", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}", "--", str(file), "again" if again else "once"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode == 3:
        raise RuntimeError("All prepared requests were sent: raise RESERVE.")
    found.check_returncode()
    result: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    return result
