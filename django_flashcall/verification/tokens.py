"""Tokens: the signed proof that a number is verified. A token can be redeemed once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.core import signing
from django.db import router, transaction
from django.utils import timezone

from .. import phones, signals
from ..conf import conf
from ..database_errors import transact
from ..exceptions import (
    RETRY_AFTER_UNAVAILABLE,
    InvalidToken,
    NoAccount,
    Unavailable,
    VerificationNotFound,
)
from ..models import Call, Phone, Verification
from ..redaction import Secret
from . import owners
from .accounts import Account, Person, account_of, create_for_number, loaded_for_login

User = TypeVar("User", bound=AbstractBaseUser)

CHANGE = "change"
"""The purpose of verifications for the number of a logged-in user."""

LOGIN = "login"
"""The purpose of verifications for login."""

SALT = "django_flashcall.token"

CONFIRMED_WITHIN = timedelta(days=1)
"""How long a call of another system can be confirmed: longer than any of them accepts a code."""


def issue(verification: Verification) -> Secret:
    """Return the token of a verification that has just succeeded."""
    return Secret(signing.dumps(verification.pk.hex, salt=SALT))


def read_token(
    token: str, *, purpose: str = "signup", user: Person = None, session: str | None = None
) -> Verification:
    """Return the verification of a token without redeeming it. The arguments are as in `redeem`.

    Raises:
        InvalidToken: the token is forged, expired, used, or for another purpose or visitor.
    """
    config = conf.PURPOSES.get(purpose)
    if config is None:
        raise InvalidToken
    try:
        id = UUID(signing.loads(token, salt=SALT, max_age=config.token_max_age))
    except (signing.BadSignature, ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    verification = (
        Verification.objects.using(router.db_for_write(Phone))
        .select_related("phone")
        .filter(pk=id, purpose=purpose)
        .first()
    )
    if (
        verification is None
        or verification.state != Verification.State.VERIFIED
        or not verification.belongs_to(account_of(user), session)
    ):
        raise InvalidToken
    return verification


def issue_again(verification: Verification) -> Secret | None:
    """Return another token for the visitor whose token was lost; None if it is too late.

    There is none for whoever only knows the id: the verification must be tied to a user or session.

    Args:
        verification: a verification that is the visitor's.

    Raises:
        Unavailable: the code was entered a moment ago. Until that request has renewed the session,
            somebody else who knows the session could ask for the token.
    """
    config, verified_at = conf.PURPOSES.get(verification.purpose), verification.verified_at
    if verification.state != Verification.State.VERIFIED or config is None or verified_at is None:
        return None
    age = timezone.now() - verified_at
    if age >= timedelta(seconds=config.token_max_age):
        return None
    if verification.user_id is None:
        if not verification.session:
            return None
        if age < timedelta(seconds=RETRY_AFTER_UNAVAILABLE):
            raise Unavailable
    return issue(verification)


def redeem(
    token: str, *, purpose: str = "signup", user: Person = None, session: str | None = None
) -> Phone:
    """Redeem a token: the number becomes the user's, and their previous number is released.

    Uses the caller's transaction: a rollback makes the token valid again. Without one, it is run
    again after a deadlock or a serialization failure.

    Args:
        token: the result of `check`.
        purpose: the purpose that the verification was started for.
        user: the saved account that gets the number; None keeps the current owner, for purposes
            such as login. If a user started the verification, it must be that user.
        session: the random value from the visitor's session.

    Returns:
        the number.

    Raises:
        InvalidToken: the token is forged, expired, used, or for another purpose or visitor.
        PhoneTaken: the number belongs to another account; the token stays valid.
    """
    verification = read_token(token, purpose=purpose, user=user, session=session)
    return redeem_read(verification, user)


def redeem_read(verification: Verification, user: Person) -> Phone:
    """Redeem what `read_token` has returned; see `redeem`.

    Args:
        verification: the verification.
        user: the saved account that gets the number, not always the visitor; None for nobody.

    Raises:
        InvalidToken: it was redeemed in the meantime.
        PhoneTaken: the number belongs to another account.
    """
    account = account_of(user)
    if account is None and user is not None and user.is_authenticated:
        raise InvalidToken  # the account was deleted

    def write() -> Phone:
        _claim(verification)
        return _give_to(account, verification)

    return transact(write, router.db_for_write(Phone))


def confirm_call(
    phone: str,
    *,
    purpose: str,
    user: Person = None,
    verification: Verification | UUID | str | None = None,
) -> Phone:
    """Store that another system accepted the code of a call of `services.place_call`.

    The number is verified then: its wrong codes and its lock are cleared, and its calls count as
    completed in the limits and the fraud guard. Uses the caller's transaction.

    Args:
        phone: the number, in any common format.
        purpose: the purpose of the call.
        user: the saved account that gets the number, and whose previous number is released; None
            keeps the current owner.
        verification: the verification of the call, or its id; None for the newest call.

    Returns:
        the number.

    Raises:
        InvalidPhone: it is not a number.
        VerificationNotFound: it was not called for this purpose in the last 24 hours, or the call
            was confirmed before.
        PhoneTaken: the number belongs to another account; nothing is stored.
        InvalidToken: the account or the number was deleted in the meantime.
    """
    database = router.db_for_write(Phone)
    now = timezone.now()
    account = account_of(user)
    waiting = Verification.objects.using(database).filter(
        purpose=purpose, state=Verification.State.PENDING, created_at__gte=now - CONFIRMED_WITHIN
    )
    called = waiting.filter(phone__number=phones.parse(phone)).select_related("phone")
    if verification is not None:
        try:
            called = called.filter(pk=UUID(str(getattr(verification, "pk", verification))))
        except ValueError:
            raise VerificationNotFound from None
    found = called.order_by("-created_at").first()
    if found is None or purpose in conf.PURPOSES:
        raise VerificationNotFound

    def write() -> Phone:
        row = waiting.filter(pk=found.pk)
        state = Verification.State.REDEEMED
        if not row.update(state=state, verified_at=now, redeemed_at=now):
            raise VerificationNotFound  # another request was faster
        found.state, found.verified_at = state, now
        found.redeemed_at = now
        found.progress_write(Call.Progress.COMPLETED).execute()
        found.phone.verified_write(now, is_known=found.is_known).execute()
        transaction.on_commit(
            lambda: signals.phone_verified.send_robust(Verification, verification=found),
            using=database,
        )
        return _give_to(account, found)

    return transact(write, database)


def sign_up(
    token: str,
    create_user: Callable[[str], User],
    *,
    user: Person = None,
    session: str | None = None,
) -> tuple[User, Phone]:
    """Redeem a token of purpose ``signup`` for a new account, in one transaction.

    Args:
        token: the result of `check`.
        create_user: creates and saves the account. It gets the number in E.164 format, for
            ``USER_PHONE_FIELD``. If it raises an error, the token stays valid.
        user: the logged-in user, if any: they may have started the verification.
        session: the random value from the visitor's session.

    Returns:
        the account and its number.

    Raises:
        InvalidToken, PhoneTaken: see `redeem`.
    """
    verification = read_token(token, purpose="signup", user=user, session=session)
    with transaction.atomic(using=router.db_for_write(Phone)):
        _claim(verification)
        phone = owners.lock_phone(verification)
        former = owners.free(phone)
        account = create_user(phone.number)
        owners.set_owner(phone, account, verification)
        _save_redeemer(verification, account, former)
        _send_redeemed(phone, account, verification)
    return account, phone


def log_in(token: str, *, user: Person = None, session: str | None = None) -> tuple[Account, Phone]:
    """Redeem a token of purpose ``login``, and return the account to log in.

    A number without an account is refused, or gets one, as ``LOGIN`` says. This function starts no
    session: pass the account to Django's `login`, or return a token of your API for it.

    Args:
        token: the result of `check`.
        user: the logged-in user, if any: they may have started the verification.
        session: the random value from the visitor's session.

    Returns:
        the account, with the authentication backend that its session uses, and its number.

    Raises:
        InvalidToken: the token is forged, expired, used, or for another purpose or visitor.
        NoAccount: the number has no account, or none that your ``AUTHENTICATION_BACKENDS`` let log
            in, such as an inactive one, or ``REASSIGNED_NUMBERS`` lets it move away from its
            account. The token stays valid.
        PhoneTaken: the number would get an account, but is in the ``USER_PHONE_FIELD`` of another.
    """
    verification = read_token(token, purpose=LOGIN, user=user, session=session)

    def write() -> tuple[Account, Phone]:
        _claim(verification)
        # Locked, so that two first logins with a number create one account.
        phone = owners.lock_phone(verification)
        account, former = owners.owner_of(phone), None
        is_new = False
        if account is None or owners.may_move(phone):
            if not conf.LOGIN.sign_up:
                raise NoAccount
            former = owners.free(phone)
            account, is_new = create_for_number(phone.number), True
        owners.set_owner(phone, account, verification)
        loaded = loaded_for_login(account, is_new=is_new)
        if loaded is None:
            raise NoAccount
        _save_redeemer(verification, account, former)
        _send_redeemed(phone, account, verification)
        return loaded, phone

    return transact(write, router.db_for_write(Phone))


def _claim(verification: Verification) -> None:
    """Mark the verification as redeemed; only one of several concurrent requests succeeds.

    It must be the first statement of the transaction: on SQLite, a transaction that has read cannot
    wait for a writer.
    """
    now = timezone.now()
    row = Verification.objects.filter(pk=verification.pk, state=Verification.State.VERIFIED)
    if not row.update(state=Verification.State.REDEEMED, redeemed_at=now):
        raise InvalidToken
    verification.state, verification.redeemed_at = Verification.State.REDEEMED, now
    verification.progress_write(Call.Progress.COMPLETED).execute()


def _give_to(account: Account | None, verification: Verification) -> Phone:
    """Make a redeemed number that of an account, if there is one, and send the signal."""
    phone: Phone = verification.phone
    if account is not None:
        owners.lock_account(account)
        phone = owners.lock_phone(verification)
        former = owners.free(phone, account)
        owners.set_owner(phone, account, verification)
        owners.save_number(account, phone.number)
        _save_redeemer(verification, account, former)
    _send_redeemed(phone, account, verification)
    return phone


def _save_redeemer(verification: Verification, account: Account, former: Account | None) -> None:
    """Store who redeemed the verification, and who lost the number by it, for the admin."""
    row = Verification.objects.filter(pk=verification.pk)
    row.update(redeemed_by=account, former_owner=former)
    verification.redeemed_by, verification.former_owner = account, former


def _send_redeemed(phone: Phone, user: Account, verification: Verification) -> None:
    def send() -> None:
        signals.phone_redeemed.send_robust(Phone, phone=phone, user=user, verification=verification)
        if former := verification.former_owner:
            signals.phone_reassigned.send_robust(Phone, phone=phone, user=user, former_owner=former)

    transaction.on_commit(send, using=router.db_for_write(Phone))
