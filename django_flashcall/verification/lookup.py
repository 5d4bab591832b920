"""Look up verifications that a visitor may see, and the numbers of accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from ..conf import conf
from ..exceptions import (
    AlreadyVerified,
    DuplicateCall,
    FlashcallError,
    InvalidDestination,
    ProviderUnavailable,
    TooManyAttempts,
    VerificationCancelled,
    VerificationExpired,
    VerificationNotFound,
)
from ..models import Call, Phone, Verification
from .accounts import Person, account_of

FINISHED: Mapping[str, type[FlashcallError]] = {
    Verification.State.VERIFIED: AlreadyVerified,
    Verification.State.REDEEMED: AlreadyVerified,
    Verification.State.CANCELLED: VerificationCancelled,
    Verification.State.FAILED: TooManyAttempts,
    Verification.EXPIRED: VerificationExpired,
}
"""Status of a finished verification → the error that explains it."""

REJECTIONS: Mapping[str, type[FlashcallError]] = {
    error.error_code: error for error in (DuplicateCall, InvalidDestination, ProviderUnavailable)
}
"""Error code of a rejected call → the error that its visitor got or, from a worker, gets."""


def explain(verification: Verification) -> FlashcallError | None:
    """Return the error that explains why a verification is finished; None if it is pending."""
    status = verification.status
    if status == Verification.State.FAILED and verification.attempts_left:
        # No call was placed.
        return rejection(verification.newest_call) or ProviderUnavailable()
    return FINISHED[status]() if status in FINISHED else None


def rejection(call: Call) -> FlashcallError | None:
    """Return the error of a call that was rejected, or None."""
    if call.status != Call.Status.REJECTED:
        return None
    return REJECTIONS.get(call.error_code, ProviderUnavailable)()


def find(
    verification: UUID | str, *, user: Person = None, session: str | None = None
) -> Verification:
    """Return a verification if the visitor may see it, with its number and call, in one query.

    Args:
        verification: the id of the verification, also as a string.
        user: the visitor, if logged in.
        session: the random value from the visitor's session.

    Raises:
        VerificationNotFound: it does not exist, or another user or session started it.
    """
    try:
        call = Call.newest(UUID(str(verification)))
    except ValueError:  # not an id
        call = None
    if call is None:
        raise VerificationNotFound
    found: Verification = call.verification
    # Other systems have purposes of their own, see `services.place_call`.
    if found.purpose not in conf.PURPOSES or not found.belongs_to(account_of(user), session):
        raise VerificationNotFound
    return found


def phone_of(user: Person) -> Phone | None:
    """Return the verified number of a user; None and anonymous users have none."""
    account = account_of(user)
    if account is None or account.pk is None:  # not saved, or deleted
        return None
    return Phone.objects.filter(owner=account.pk).first()


def has_verified_phone(user: Person, *, max_age_days: int | None = None) -> bool:
    """Return True if the user is logged in and has a verified number.

    Args:
        max_age_days: days since the user verified it; None for any time.
    """
    phone = phone_of(user)
    if phone is None or max_age_days is None:
        return phone is not None
    oldest = timezone.now() - timedelta(days=max_age_days)
    return phone.verified_at is not None and phone.verified_at >= oldest
