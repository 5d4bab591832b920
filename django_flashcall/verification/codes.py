"""Codes: made at random, read from what people type, kept only as keyed digests."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from ..redaction import Secret

_SALT = "django_flashcall.codes"


def generate(length: int) -> Secret:
    """Return a code of `length` digits, each equally likely (NIST SP 800-63B-4, 3.1.3.2)."""
    return Secret(f"{secrets.randbelow(10**length):0{length}d}")


def normalise(typed: str) -> Secret:
    """Return what was typed with blanks and dashes left out and every script's digits made plain.

    Leading zeros survive; anything that is no digit stays, so that the result is then no code.
    """
    kept = (c for c in typed[:100] if not (c.isspace() or unicodedata.category(c) in ("Pd", "Cf")))
    return Secret("".join(str(unicodedata.decimal(c, c)) for c in kept))


def is_code(text: str, length: int) -> bool:
    """Tell whether a normalised text has exactly `length` plain digits."""
    return len(text) == length and text.isascii() and text.isdecimal()


def digest(code: str, verification: UUID, *, key: str | None = None) -> str:
    """Return the digest under which a code is kept: 64 hexadecimal characters.

    HMAC-SHA256 keyed with ``SECRET_KEY``: without the key, ten thousand guesses at a stolen row
    tell nothing. The verification's id in the message makes a digest worthless in any other row.
    """
    return salted_hmac(
        _SALT, f"{verification.hex}:{code}", secret=key, algorithm="sha256"
    ).hexdigest()


def matches(code: str, verification: UUID, kept: str) -> bool:
    """Compare a code with a kept digest in constant time, under each of the site's keys."""
    if not kept:
        return False
    keys: Iterable[Any] = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    # Every key is tried, so that the time does not tell which one fitted.
    found = [constant_time_compare(digest(code, verification, key=key), kept) for key in keys]
    return any(found)
