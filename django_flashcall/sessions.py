"""What a visitor's session keeps for the pages: verified numbers, and words for the next page.

The token of a verified number stays here, in the session, and never stands in a page or a URL.
"""

from __future__ import annotations

from typing import Any, TypedDict

from django.http import HttpRequest

from . import services
from .exceptions import FlashcallError
from .models import Phone, Verification
from .protection import visitors
from .redaction import Secret

__all__ = ["redeem", "sign_up", "verification"]

_TOKENS = f"{visitors.SESSION_KEY}_tokens"
_CURRENT = f"{visitors.SESSION_KEY}_current"
_REFUSAL = f"{visitors.SESSION_KEY}_refusal"


class Refusal(TypedDict):
    """What a page has to say after a redirect: an error of the services, as it was worded."""

    verification: str
    field: str | None
    message: str
    error_code: str


def visitor(request: HttpRequest) -> dict[str, Any]:
    """Return whose request it is, as the services ask: by account and by session."""
    return {"user": getattr(request, "user", None), "session": visitors.session_value(request)}


def keep(request: HttpRequest, verification: Verification, token: str) -> None:
    """Keep the token of a number that was just verified, and leave the former session behind.

    Whoever knew its key, or the value that tied the verification to it, has no part in what is
    verified (session fixation).
    """
    tokens = request.session.get(_TOKENS, {})
    request.session[_TOKENS] = {**tokens, verification.purpose: str(token)}
    renew(request, verification)


def renew(request: HttpRequest, verification: Verification) -> None:
    """Give the session another key and another value, and the verification to that value."""
    request.session.cycle_key()
    verification.session = visitors.bind_session(request, anew=True)
    verification.save(update_fields=["session"])


def verification(request: HttpRequest, *, purpose: str = "signup") -> Verification:
    """Return the verification of the number that is verified in this session and not redeemed yet.

    Raises:
        InvalidToken: there is none, it is too old, or it was redeemed.
    """
    return services.read_token(_token(request, purpose), purpose=purpose, **visitor(request))


def redeem(request: HttpRequest, *, purpose: str = "signup", user: Any = None) -> Phone:
    """Spend the token that the session keeps; see `services.redeem`.

    Args:
        purpose: what the number was verified for.
        user: the account that gets the number; None leaves its owner as it is (login).

    Raises:
        InvalidToken: there is none, it is too old, or it was redeemed.
        PhoneTaken: the number belongs to another account.
    """
    session = visitors.session_value(request)
    token = _token(request, purpose)
    return services.redeem(token, purpose=purpose, user=user, session=session)


def sign_up(request: HttpRequest, create_user: Any) -> tuple[Any, Phone]:
    """Spend the token that the session keeps on a new account; see `services.sign_up`."""
    return services.sign_up(_token(request, "signup"), create_user, **visitor(request))


def forget(request: HttpRequest, *, purpose: str) -> None:
    """Keep the token no more: nothing can be made of it here."""
    tokens = request.session.get(_TOKENS, {})
    request.session[_TOKENS] = {kept: tokens[kept] for kept in tokens if kept != purpose}


def enter(request: HttpRequest, verification: Verification) -> None:
    """Remember the verification that the visitor is going through."""
    request.session[_CURRENT] = str(verification.pk)


def current(request: HttpRequest) -> Verification | None:
    """Return the pending verification that the visitor is going through, if there is one."""
    id = request.session.get(_CURRENT)
    if id is None:
        return None
    try:
        found = services.find(id, **visitor(request))
    except FlashcallError:
        return None
    return found if found.is_pending else None


def say(
    request: HttpRequest, error: FlashcallError, verification: Verification | None = None
) -> None:
    """Keep an error for the page that is about to be fetched.

    Args:
        verification: the one whose page that is; None for the page that starts one.
    """
    request.session[_REFUSAL] = Refusal(
        verification=_name(verification),
        field=error.field,
        message=str(error),
        error_code=error.error_code,
    )


def said(request: HttpRequest, verification: Verification | None = None) -> Refusal | None:
    """Return, once, the error that was kept for a page; see `say`."""
    refusal: Refusal | None = request.session.get(_REFUSAL)
    if refusal is None or refusal["verification"] != _name(verification):
        return None
    del request.session[_REFUSAL]
    return refusal


def _name(verification: Verification | None) -> str:
    return str(verification.pk) if verification else ""


def _token(request: HttpRequest, purpose: str) -> Secret:
    return Secret(request.session.get(_TOKENS, {}).get(purpose, ""))
