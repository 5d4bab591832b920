"""Workers of each kind as processes of their own, and the Redis that two kinds of them need."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from . import documents

HOW_TO = documents.DOCS / "how-to" / "workers.md"
COMMANDS = {
    "default": ["django", "db_worker", "--interval", "0.05", "--no-startup-delay"],
    "redis": ["django", "rqworker", "--job-class", "django_tasks_rq.Job"],
    "celery": ["celery", "--app", "mysite.celery", "worker", "--pool", "solo", "--without-mingle"],
}


def write_celery_site(folder: Path) -> None:
    """Write the files of the how-to."""
    site = folder / "mysite"
    site.mkdir()
    (site / "__init__.py").touch()
    for block in documents.blocks(HOW_TO):
        if block.caption.startswith("mysite/"):
            (folder / block.caption).write_text(block.text)


@contextlib.contextmanager
def worker(kind: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with the settings of the test. A failure shows what it printed and did last."""
    given = {
        "kind": kind,
        "database": connection.settings_dict["NAME"],
        "flashcall": settings.FLASHCALL,
        "redis": settings.CELERY_BROKER_URL,
    }
    environment = {
        **os.environ,
        "FLASHCALL_WORKER": json.dumps(given),
        "DJANGO_SETTINGS_MODULE": "tests.worker_settings",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": os.pathsep.join([str(documents.ROOT), str(folder)]),
    }
    output = folder / f"{kind}.log"
    with output.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[kind]], env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    except AssertionError as error:
        error.add_note(f"The worker ended with {process.poll()}.")
        process.send_signal(signal.SIGABRT)
        process.wait()
        error.add_note(output.read_text()[-5000:])
        raise
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis(folder: Path, port: int) -> Iterator[str]:
    """Run Redis and return its URL."""
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        import redis as client

        url = f"redis://127.0.0.1:{port}/0"
        with client.Redis.from_url(url) as connected:
            wait_until(lambda: answers(connected), "Redis did not start")
        yield url
    finally:
        server.kill()
        server.wait()


def answers(client: Any) -> bool:
    with contextlib.suppress(OSError, Exception):
        return bool(client.ping())
    return False


def wait_until(done: Callable[[], Any], message: str, seconds: float = 60) -> None:
    """Ask again and again, for as long as a busy machine may need."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, message
        time.sleep(0.05)
