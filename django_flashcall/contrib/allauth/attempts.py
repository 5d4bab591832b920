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


def remember(request: HttpRequest, verification: Verification, code: str) -> None:
    """Note in the session which call brings a code; allauth keeps the code itself there, too."""
    digest = codes.digest(code, verification.pk)
    request.session[SESSION_KEY] = [verification.pk.hex, digest]


def spend(request: HttpRequest, code: str | None) -> bool:
    """Spend an attempt of the call that brought a code; return False if none is left.

    Args:
        request: the request with a guess.
        code: the code that allauth compares it with; it can be one that was sent by email.
    """
    id, digest = request.session.get(SESSION_KEY) or (None, "")
    if not (code and id and codes.matches(code, UUID(id), digest)):
        return True
    left = Verification.objects.filter(pk=UUID(id), attempts_left__gt=0)
    return bool(left.update(attempts_left=F("attempts_left") - 1))
