"""Workers of each kind as processes of their own, and the Redis that two kinds of them need."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from . import documents
from .processes import database_of_the_test, environment_of, log_on_failure, wait_until

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
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


def settings_of_queues(url: str = NOBODY_LISTENS) -> dict[str, Any]:
    """Return the settings of the queues that need Redis."""
    return {
        "CELERY_BROKER_URL": url,
        "CELERY_TASK_DEFAULT_QUEUE": "default",
        "RQ_QUEUES": {"default": {"URL": url}},
    }


def start_worker(kind: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a worker and return its process; nobody restarts it.

    Args:
        kind: a key of `COMMANDS`.
        environment: the result of `environment_of`.
        log: the file for its output.
    """
    command = [sys.executable, "-m", *COMMANDS[kind]]
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


@contextlib.contextmanager
def worker(kind: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with the settings of the test. A failure shows what it printed and did last."""
    given = settings_of_queues(settings.CELERY_BROKER_URL)
    if kind == "celery":
        given["TASKS"] = {
            **settings.TASKS,
            "celery": {"BACKEND": "mysite.celery_tasks.CeleryTasks"},
        }
    environment = environment_of(database_of_the_test(), settings.FLASHCALL, **given)
    environment["PYTHONPATH"] += os.pathsep + str(folder)
    log = folder / f"{kind}.log"
    process = start_worker(kind, environment, log)
    try:
        with log_on_failure(log):
            try:
                yield process
            except AssertionError as error:
                error.add_note(f"The worker ended with {process.poll()}.")
                process.send_signal(signal.SIGABRT)  # prints the stack
                process.wait()
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
