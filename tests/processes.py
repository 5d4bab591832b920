"""What the processes of a test share: their settings, and how to wait for them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db import connection

from .documents import ROOT

DATABASE = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")


def environment_of(
    database: dict[str, Any], flashcall: dict[str, Any], **settings: Any
) -> dict[str, str]:
    """Return the environment of a process of a site, for `tests.site_settings`.

    Args:
        database: the default one of ``DATABASES``.
        flashcall: the setting ``FLASHCALL``.
        settings: others that differ from those of the suite.
    """
    given = {"DATABASES": {"default": database}, "FLASHCALL": flashcall, **settings}
    return {
        **os.environ,
        "FLASHCALL_SITE": json.dumps(given, default=str),
        "DJANGO_SETTINGS_MODULE": "tests.site_settings",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(ROOT),
    }


def database_of_the_test() -> dict[str, Any]:
    """Return the settings with which other processes see what a test has committed."""
    return {key: connection.settings_dict[key] for key in DATABASE}


@contextlib.contextmanager
def log_on_failure(log: Path) -> Iterator[None]:
    """Add the end of a log to a failure."""
    try:
        yield
    except AssertionError as error:
        error.add_note(log.read_text()[-5000:])
        raise


def wait_until(done: Callable[[], Any], message: str, seconds: float = 60) -> None:
    """Ask again and again, for as long as a busy machine may need."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, message
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Return True if somebody listens on a port."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
