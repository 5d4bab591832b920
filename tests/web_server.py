"""A site in gunicorn, as most sites run: two processes with eight threads each."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

from django_flashcall.backends import BaseBackend, CallRequest, Receipt

from .processes import environment_of, free_port, listens, log_on_failure, wait_until

PROCESSES = 2
THREADS = 8


class PatientBackend(BaseBackend):
    """Waits for its provider for as long as a test takes, where those of a site give up."""

    def __init__(self, alias: str, *, url: str) -> None:
        super().__init__(alias)
        self.url = url

    def place_call(self, request: CallRequest) -> Receipt:
        requests.post(self.url, json={"id": request.reference}).raise_for_status()
        return Receipt()


class WebServer(NamedTuple):
    """A running server. Its main process starts another one for each that is killed."""

    port: int
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def gunicorn(
    folder: Path, database: dict[str, Any], flashcall: dict[str, Any], **options: Any
) -> Iterator[WebServer]:
    """Create the tables and serve the suite's URLs.

    Args:
        folder: where it writes its log.
        database: the default one of ``DATABASES``.
        flashcall: the setting ``FLASHCALL``.
        options: those of `environment_of`.
    """
    environment = environment_of(database, flashcall, **options)
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=environment, check=True)
    log = folder / "gunicorn.log"
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(PROCESSES), "--threads", str(THREADS), "--log-level", "warning"]
    command += ["django.core.wsgi:get_wsgi_application()"]
    with log.open("ab") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with log_on_failure(log):
            wait_until(lambda: listens(port), "gunicorn did not start")
            yield WebServer(port, server)
    finally:
        server.terminate()
        server.wait()
