"""A site in gunicorn, as most sites run: two processes with eight threads each; or in uvicorn."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from django.utils import translation

from django_flashcall.backends import BaseBackend, CallRequest, Receipt

from .processes import (
    database_of_the_test,
    environment_of,
    free_port,
    listens,
    log_on_failure,
    wait_until,
)

PROCESSES = 2
THREADS = 8
GUNICORN = (
    "gunicorn",
    "--bind=127.0.0.1:{port}",
    f"--workers={PROCESSES}",
    f"--threads={THREADS}",
    "--log-level=warning",
    "django.core.wsgi:get_wsgi_application()",
)
UVICORN = (
    "uvicorn",
    "--port={port}",
    "--lifespan=off",
    "--log-level=warning",
    "--factory",
    "django.core.asgi:get_asgi_application",
)


class PatientBackend(BaseBackend):
    """Waits for its provider for as long as a test takes, where those of a site give up."""

    def __init__(self, alias: str, *, url: str) -> None:
        super().__init__(alias)
        self.url = url

    def place_call(self, request: CallRequest) -> Receipt:
        told = {"id": request.reference, "language": translation.get_language()}
        requests.post(self.url, json=told).raise_for_status()
        return Receipt()


def patient(url: str) -> dict[str, Any]:
    """Return the keys of ``FLASHCALL`` with which calls are placed by a `PatientBackend`."""
    path = f"{PatientBackend.__module__}.{PatientBackend.__name__}"
    backend = {"BACKEND": path, "OPTIONS": {"url": url}}
    return {"BACKENDS": {"default": backend}, "CHANNELS": {"flash_call": ["default"]}}


def gunicorn(
    folder: Path,
    database: dict[str, Any],
    flashcall: dict[str, Any],
    *arguments: str,
    **variables: str,
) -> contextlib.AbstractContextManager[int]:
    """Serve the suite's URLs in gunicorn; see `serve`.

    Args:
        folder, database, flashcall: see `serve`.
        arguments: more of gunicorn's own.
        variables: more of its environment.
    """
    return serve((*GUNICORN, *arguments), folder, database, flashcall, variables=variables)


@contextlib.contextmanager
def serve(
    server: tuple[str, ...],
    folder: Path,
    database: dict[str, Any],
    flashcall: dict[str, Any],
    *,
    variables: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[int]:
    """Create the tables, serve a site, and return the port.

    Args:
        server: `GUNICORN` or `UVICORN`.
        folder: where it writes its log.
        database: the default one of ``DATABASES``.
        flashcall: the setting ``FLASHCALL``.
        variables: more of its environment.
        settings: others that differ from those of the suite.
    """
    environment = {**environment_of(database, flashcall, **settings), **(variables or {})}
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=environment, check=True)
    with _run(server, folder, environment) as port:
        yield port


def serve_from_the_tests_database(
    server: tuple[str, ...], folder: Path, flashcall: dict[str, Any], **settings: Any
) -> contextlib.AbstractContextManager[int]:
    """Serve a site on the database of the test, which then sees its rows; see `serve`."""
    environment = environment_of(database_of_the_test(), flashcall, **settings)
    return _run(server, folder, environment)


@contextlib.contextmanager
def _run(server: tuple[str, ...], folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run a web server and return its port; a failed test shows its log."""
    log = folder / f"{server[0]}.log"
    port = free_port()
    command = [sys.executable, "-m", *(option.format(port=port) for option in server)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with log_on_failure(log):
            wait_until(lambda: listens(port), f"{server[0]} did not start")
            yield port
    finally:
        process.terminate()
        process.wait()
