"""Data of the pages in the visitor's session: tokens of verified numbers, and the next error.

The token of a verified number is stored only in the session, never in a page or a URL.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypedDict

from django.contrib.auth import login
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.db import Error, router, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from . import database_errors, services
from .conf import conf
from .exceptions import FlashcallError, InvalidToken, ReauthenticationRequired
from .models import Phone, Verification
from .protection import visitors
from .redaction import Secret
from .verification.tokens import LOGIN, redeem_read

__all__ = ["log_in", "redeem", "sign_up", "verification"]

_TOKENS = f"{visitors.SESSION_KEY}_tokens"
_CURRENT = f"{visitors.SESSION_KEY}_current"
_VERIFIED = f"{visitors.SESSION_KEY}_verified"
_REFUSAL = f"{visitors.SESSION_KEY}_refusal"


class StoredError(TypedDict):
    """An error of the services to show after a redirect."""

    verification: str
    field: str | None
    message: str
    error_code: str


def visitor(request: HttpRequest) -> dict[str, Any]:
    """Return the user and session of a request, as keyword arguments for the services."""
    return {"user": getattr(request, "user", None), "session": visitors.session_value(request)}


def keep(request: HttpRequest, verification: Verification, token: str) -> None:
    """Store the token of a number that was just verified; call `renew` before the response."""
    tokens = request.session.get(_TOKENS, {})
    request.session[_TOKENS] = {**tokens, verification.purpose: str(token)}
    request.session[_VERIFIED] = str(verification.pk)


def renew(request: HttpRequest, verification: Verification) -> None:
    """Renew the session after a number was verified, with what is tied to it.

    This prevents session fixation: someone who knew the old session cannot use the token.
    """
    tied = {verification.pk}
    tokens = {}
    for purpose, token in request.session.get(_TOKENS, {}).items():
        with suppress(InvalidToken):
            tied.add(services.read_token(token, purpose=purpose, **visitor(request)).pk)
            tokens[purpose] = token
    request.session[_TOKENS] = tokens
    value = visitors.bind_session(request, anew=True)
    with transaction.atomic(using=router.db_for_write(Verification)):
        Verification.objects.filter(pk__in=tied).update(session=value)
        request.session.cycle_key()
    verification.session = value


def last_verified(request: HttpRequest) -> Verification | None:
    """Return the verification that was completed last in this session, or None."""
    id = request.session.get(_VERIFIED)
    with suppress(FlashcallError):
        return services.find(id, **visitor(request)) if id else None
    return None


def save(request: HttpRequest, response: HttpResponseBase) -> None:
    """Save a changed session now, and not again in Django's middleware, which sets the cookie.

    If only the middleware saved it, a database that fails then would be a 400 or a 500.

    Args:
        request: the request with the session.
        response: its response; if it is a server error, nothing is saved, as in the middleware.

    Raises:
        django.db.Error: the session could not be saved.
    """
    session = request.session
    if not session.modified or session.is_empty() or response.status_code >= 500:
        return
    try:
        session.save()
    except UpdateError as error:
        lost = error.__context__
        if isinstance(lost, Error) and database_errors.is_temporary(lost):
            raise lost from lost.__cause__
        return  # the visitor has logged out in the meantime: the middleware answers 400
    saved, save = _content(session), session.save

    def save_if_changed(*args: Any, **kwargs: Any) -> None:
        if _content(session) != saved:
            save(*args, **kwargs)

    session.save = save_if_changed  # type: ignore[method-assign]


def _content(session: SessionBase) -> tuple[str | None, bytes]:
    """Return what is stored of a session."""
    return session.session_key, session.serializer().dumps(dict(session.items()))


def verification(request: HttpRequest, *, purpose: str = "signup") -> Verification:
    """Return the verification of the number verified in this session and not redeemed yet.

    Raises:
        InvalidToken: there is none, it is too old, or it was redeemed.
    """
    return services.read_token(_token(request, purpose), purpose=purpose, **visitor(request))


def redeem(request: HttpRequest, *, purpose: str = "signup", user: Any = None) -> Phone:
    """Redeem the token in the session; see `services.redeem`.

    Args:
        purpose: the purpose that the number was verified for.
        user: the account that gets the number; None keeps the current owner (login).

    Raises:
        InvalidToken: there is none, it is too old, or it was redeemed.
        PhoneTaken: the number belongs to another account.
    """
    return redeem_read(verification(request, purpose=purpose), user)


def sign_up(request: HttpRequest, create_user: Any) -> tuple[Any, Phone]:
    """Redeem the token in the session for a new account; see `services.sign_up`."""
    return services.sign_up(_token(request, "signup"), create_user, **visitor(request))


def log_in(request: HttpRequest, token: str | None = None) -> tuple[Any, Phone]:
    """Log the visitor in with the token of a number; see `services.log_in` for its errors.

    The session gets a new key and Django's signal ``user_logged_in`` is sent once.

    Args:
        token: the token; by default, the one in the session.

    Returns:
        the user and their number.
    """
    if token is None:
        token = _token(request, LOGIN)
    user, phone = services.log_in(token, **visitor(request))
    login(request, user)
    forget(request, purpose=LOGIN)
    return user, phone


def forget(request: HttpRequest, *, purpose: str) -> None:
    """Delete the token from the session."""
    tokens = request.session.get(_TOKENS, {})
    if purpose in tokens:
        request.session[_TOKENS] = {kept: tokens[kept] for kept in tokens if kept != purpose}


def reauthenticate(request: HttpRequest) -> HttpResponseBase | None:
    """Let the site's ``REAUTHENTICATE`` decide whether the user may change their number.

    Args:
        request: a request of Django or Django REST framework, passed on to ``REAUTHENTICATE``.

    Returns:
        None if they may, or the response that the site wants to give.

    Raises:
        ReauthenticationRequired: ``REAUTHENTICATE`` returned a false value.
    """
    decide = conf.REAUTHENTICATE
    decision = True if decide is None else decide(request)
    if isinstance(decision, HttpResponseBase):
        return decision
    if not decision:
        raise ReauthenticationRequired
    return None


def set_current(request: HttpRequest, verification: Verification) -> None:
    """Store the visitor's current verification."""
    request.session[_CURRENT] = str(verification.pk)


def current(request: HttpRequest) -> Verification | None:
    """Return the visitor's current verification if it is pending, otherwise None."""
    id = request.session.get(_CURRENT)
    if id is None:
        return None
    try:
        found = services.find(id, **visitor(request))
    except FlashcallError:
        return None
    return found if found.is_pending else None


def store_error(
    request: HttpRequest, error: FlashcallError, verification: Verification | None = None
) -> None:
    """Store an error for the next page.

    Args:
        verification: the verification whose page shows it; None for the start page.
    """
    request.session[_REFUSAL] = StoredError(
        verification=_name(verification),
        field=error.field,
        message=str(error),
        error_code=error.error_code,
    )


def pop_error(request: HttpRequest, verification: Verification | None = None) -> StoredError | None:
    """Return the error stored for a page, if any, and delete it; see `store_error`."""
    refusal: StoredError | None = request.session.get(_REFUSAL)
    if refusal is None or refusal["verification"] != _name(verification):
        return None
    del request.session[_REFUSAL]
    return refusal


def _name(verification: Verification | None) -> str:
    return str(verification.pk) if verification else ""


def _token(request: HttpRequest, purpose: str) -> Secret:
    return Secret(request.session.get(_TOKENS, {}).get(purpose, ""))
