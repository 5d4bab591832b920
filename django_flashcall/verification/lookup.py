"""Reads: a verification that a visitor may see, and the number of an account."""

from __future__ import annotations

from uuid import UUID

from ..exceptions import VerificationNotFound
from ..models import Call, Phone, Verification
from .tokens import Person, account_of


def find(verification: UUID, *, user: Person = None, session: str | None = None) -> Verification:
    """Return a verification that a visitor may see, with its number and newest call, in one query.

    Args:
        verification: its id.
        user: the visitor, if logged in.
        session: the random value of the visitor's session.

    Raises:
        VerificationNotFound: there is none, or a user or session other than these started it.
    """
    call = Call.newest(verification)
    if call is None or not call.verification.belongs_to(account_of(user), session):
        raise VerificationNotFound
    found: Verification = call.verification
    return found


def phone_of(user: Person) -> Phone | None:
    """Return the verified number of an account, or None."""
    account = account_of(user)
    return None if account is None else Phone.objects.filter(owner=account.pk).first()


def has_verified_phone(user: Person) -> bool:
    """Tell whether somebody is logged in and has a verified number."""
    return phone_of(user) is not None
