"""A CAPTCHA that needs no third party: Altcha, a proof of work in the visitor's browser or app.

Set ``CHALLENGE`` to ``"django_flashcall.contrib.altcha.is_solved"`` and install the extra
``altcha``. The pages then show it by themselves. An app gets a challenge from ``challenge/`` of the
API and sends the solution in the header ``Flashcall-Challenge``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from altcha import v1
from django.conf import settings
from django.db import IntegrityError, router, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from ..models import GuardRequest

__all__ = ["Altcha", "is_solved"]

HEADER = "Flashcall-Challenge"
FIELD = "altcha"

MAX_NUMBER = 50_000
"""A browser tries half as many numbers on average: about a second on a telephone."""

MAX_AGE = timedelta(minutes=10)
"""How long a challenge can be solved."""

LONGEST = 2000
"""Characters of a solution that are read."""


class Altcha:
    """The challenge: call it to check a request, and `offer` makes a new one."""

    def __call__(self, request: Any) -> bool:
        """Return True if a request has a solution that was not used before; it is used up.

        Args:
            request: a request of Django or Django REST framework.
        """
        solution = request.headers.get(HEADER, "") or request.POST.get(FIELD, "")
        signature = _signature(solution) if 0 < len(solution) <= LONGEST else None
        return signature is not None and _use_up(signature)

    def offer(self) -> dict[str, Any]:
        """Return a new challenge, for Altcha's widget or a solver of your own."""
        options = v1.ChallengeOptions(
            max_number=MAX_NUMBER, hmac_key=next(_keys()), expires=timezone.now() + MAX_AGE
        )
        challenge = v1.create_challenge(options)
        return {
            "algorithm": challenge.algorithm,
            "challenge": challenge.challenge,
            "maxnumber": challenge.max_number,
            "salt": challenge.salt,
            "signature": challenge.signature,
        }


is_solved = Altcha()


def _signature(solution: str) -> str | None:
    """Return the signature of a challenge that was solved, or None."""
    try:
        found = json.loads(base64.b64decode(solution, validate=True))
        if found["algorithm"] != "SHA-256" or "expires=" not in found["salt"]:
            return None
        is_right = any(v1.verify_solution(found, key)[0] for key in _keys())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return str(found["signature"]) if is_right else None


def _use_up(signature: str) -> bool:
    """Store that a challenge was solved; return False if it was before, also a moment ago."""
    key = hashlib.sha256(f"altcha {signature}".encode()).hexdigest()
    try:
        with transaction.atomic(using=router.db_for_write(GuardRequest)):
            GuardRequest.objects.create(key=key, prefix="", asked_at=timezone.now())
    except IntegrityError:
        return False
    return True


def _keys() -> Iterator[str]:
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield salted_hmac("django_flashcall.altcha", "", secret=key, algorithm="sha256").hexdigest()
