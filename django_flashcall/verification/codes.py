"""Generate, normalise and compare codes. Only keyed digests are stored."""

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
_DERIVED_SALT = "django_flashcall.codes.derived"


def generate(length: int) -> Secret:
    """Return a uniformly random code of `length` digits (NIST SP 800-63B-4, 3.1.3.2)."""
    return Secret(f"{secrets.randbelow(10**length):0{length}d}")


def derive(
    reference: UUID, length: int, *, verification: UUID, kept: str, offset: int = 0
) -> Secret:
    """Return the code of a call that a worker places: it follows from the call and ``SECRET_KEY``.

    So the code needs no place in the queue. To others it is as random as the identifier of the call
    (HMAC is a pseudorandom function, RFC 2104). If the key was rotated while the call waited, an
    older one matches.

    Args:
        reference: the identifier of the call.
        length: digits of the code.
        verification: the id of the verification.
        kept: the stored digest; empty if the code is new.
        offset: what `offset` returned for the code of another system; 0 for a code of ours.

    Returns:
        the code; empty if no key of the site matches.
    """
    for key in _keys():
        value = (_derived(reference, key) + offset) % 10**length
        code = Secret(f"{value:0{length}d}")
        if not kept or constant_time_compare(digest(code, verification, key=key), kept):
            return code
    return Secret()


def offset(code: Secret, reference: UUID) -> int:
    """Return the difference between a code and the derived one, modulo the number of codes.

    It is stored while a worker has yet to place a call with a code of another system. To those who
    do not have ``SECRET_KEY``, it is as random as the derived code (a one-time pad).
    """
    return (int(code) - _derived(reference, None)) % int(10 ** len(code))


def _derived(reference: UUID, key: Any) -> int:
    found = salted_hmac(_DERIVED_SALT, reference.hex, secret=key, algorithm="sha256").digest()
    return int.from_bytes(found)


def normalise(typed: str) -> Secret:
    """Return typed text without spaces and dashes, and with digits of any script as ASCII.

    Leading zeros are kept. Other characters are kept too, so that the result is not a code.
    """
    kept = (c for c in typed[:100] if not (c.isspace() or unicodedata.category(c) in ("Pd", "Cf")))
    return Secret("".join(str(unicodedata.decimal(c, c)) for c in kept))


def is_code(text: str, length: int) -> bool:
    """Return True if a normalised text has exactly `length` ASCII digits."""
    return len(text) == length and text.isascii() and text.isdecimal()


def digest(code: str, verification: UUID, *, key: str | None = None) -> str:
    """Return the digest to store for a code: 64 hexadecimal characters.

    HMAC-SHA256 with ``SECRET_KEY``: without the key, a stolen row cannot be tested against all ten
    thousand codes. The verification's id in the message makes the digest useless in another row.
    """
    return salted_hmac(
        _SALT, f"{verification.hex}:{code}", secret=key, algorithm="sha256"
    ).hexdigest()


def matches(code: str, verification: UUID, kept: str) -> bool:
    """Compare a code with a stored digest in constant time, with each of the site's keys."""
    if not kept:
        return False
    # Try every key, so that the time does not show which one matched.
    found = [constant_time_compare(digest(code, verification, key=key), kept) for key in _keys()]
    return any(found)


def _keys() -> Iterable[Any]:
    return settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS
