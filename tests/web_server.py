"""A site in gunicorn, as most sites run: two processes with eight threads each."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from django_flashcall.backends import BaseBackend, CallRequest, Receipt

from .documents import ROOT
from .workers import wait_until

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


def environment_of(database: dict[str, Any], flashcall: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a process of the site."""
    return {
        **os.environ,
        "FLASHCALL_SITE": json.dumps({"database": database, "flashcall": flashcall}, default=str),
        "DJANGO_SETTINGS_MODULE": "tests.site_settings",
        "PYTHONPATH": str(ROOT),
    }


@contextlib.contextmanager
def gunicorn(
    folder: Path,
    database: dict[str, Any],
    flashcall: dict[str, Any],
    *arguments: str,
    **variables: str,
) -> Iterator[int]:
    """Create the tables, serve the suite's URLs, and return the port.

    Args:
        folder: where it writes its log.
        database: the default one of ``DATABASES``.
        flashcall: the setting ``FLASHCALL``.
        arguments: more of gunicorn's own.
        variables: more of its environment.
    """
    environment = {**environment_of(database, flashcall), **variables}
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=environment, check=True)
    log = folder / "gunicorn.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(PROCESSES), "--threads", str(THREADS), "--log-level", "warning"]
    command += [*arguments, "django.core.wsgi:get_wsgi_application()"]
    with log.open("ab") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: listens(port), "gunicorn did not start")
        yield port
    except AssertionError as error:
        error.add_note(log.read_text()[-5000:])
        raise
    finally:
        server.terminate()
        server.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
