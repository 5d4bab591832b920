"""Count the guesses of a call's code in the database.

allauth counts wrong codes in the session. Requests that arrive at the same moment all read the same
number there, so that they share one attempt.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import F
from django.http import HttpRequest

from ...models import Verification
from ...verification import codes

SESSION_KEY = "django_flashcall_allauth"

CALLS_KEPT = 20
"""Calls of a session that are noted: more than it can request while a code is valid."""


def remember(request: HttpRequest, verification: Verification, code: str) -> None:
    """Note in the session which call brings a code; allauth keeps the code itself there, too."""
    call = [verification.pk.hex, codes.digest(code, verification.pk)]
    # Several codes can be valid in one session: of a change, and of a reauthentication.
    request.session[SESSION_KEY] = [*request.session.get(SESSION_KEY, ()), call][-CALLS_KEPT:]


def spend(request: HttpRequest, code: str | None) -> bool:
    """Spend an attempt of the call that brought a code; return False if none is left.

    Args:
        request: the request with a guess.
        code: the code that allauth compares it with; it can be one that was sent by email.
    """
    for id, digest in reversed(request.session.get(SESSION_KEY, ())):
        if code and codes.matches(code, UUID(id), digest):
            left = Verification.objects.filter(pk=UUID(id), attempts_left__gt=0)
            return bool(left.update(attempts_left=F("attempts_left") - 1))
    return True
