"""Rules for the values of a backend's options; ``manage.py check`` applies them."""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from django.core import checks

__all__ = ["Rule", "is_seconds", "is_text", "is_url", "is_whole"]


class Rule(NamedTuple):
    """A rule for the value of an option: the test, its description, and the id of the check."""

    holds: Callable[[Any], bool]
    words: str
    id: str = "django_flashcall.E008"

    def broken(self, alias: str, name: str) -> checks.CheckMessage:
        """Return the error for a wrong value, without the value: it may be a secret."""
        return checks.Error(
            f"FLASHCALL: option {name!r} of backend {alias!r} is wrong.",
            hint=f"It must be {self.words}.",
            id=self.id,
        )


def is_text(value: Any) -> bool:
    """Return True for a non-empty string."""
    return isinstance(value, str) and bool(value)


def is_whole(lowest: int, highest: float = math.inf) -> Callable[[Any], bool]:
    """Return a test for integers in a range; booleans are not integers here."""
    return lambda value: type(value) is int and lowest <= value <= highest


def is_seconds(highest: float) -> Callable[[Any], bool]:
    """Return a test for positive numbers of seconds, up to `highest`."""
    return lambda value: type(value) in (int, float) and 0 < value <= highest


def is_url(value: Any) -> bool:
    """Return True for an absolute http(s) URL without user and password."""
    if not isinstance(value, str) or re.search(r"[\s\x00-\x1f\x7f]", value):
        return False
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")
        requests.Request("POST", value).prepare()
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and parts.port != 0
        )
    except (ValueError, requests.RequestException):
        return False


def is_local(url: str) -> bool:
    """Return True if the host of a URL is this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_verification(value: Any) -> bool:
    """Return True for True, and for the path of a file or directory of CA certificates."""
    if not is_text(value):
        return value is True
    path = Path(value)
    try:
        if not path.is_dir():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError):
        return False
    return True
