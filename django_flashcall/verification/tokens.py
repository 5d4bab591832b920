"""Tokens: the signed proof that a number is verified. A token can be redeemed once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.db import router, transaction
from django.db.models import Q
from django.utils import timezone

from .. import phones, signals
from ..conf import conf
from ..database_errors import transact
from ..exceptions import InvalidToken, PhoneTaken, VerificationNotFound
from ..models import Call, Phone, Verification
from ..redaction import Secret

User = TypeVar("User", bound=AbstractBaseUser)
Person = AbstractBaseUser | AnonymousUser | None
Account = Any
"""An instance of ``AUTH_USER_MODEL``."""

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
    phone = verification.phone
    account = account_of(user)

    def write() -> None:
        _claim(verification)
        _give_to(account, phone, verification)

    transact(write, router.db_for_write(Phone))
    return phone


def confirm_call(phone: str, *, purpose: str, user: Person = None) -> Phone:
    """Store that another system accepted the code of a call of `services.place_call`.

    The number is verified then: its wrong codes and its lock are cleared, and its calls count as
    completed in the limits and the fraud guard. Uses the caller's transaction.

    Args:
        phone: the number, in any common format.
        purpose: the purpose of the call.
        user: the saved account that gets the number, and whose previous number is released; None
            keeps the current owner.

    Returns:
        the number.

    Raises:
        InvalidPhone: it is not a number.
        VerificationNotFound: it was not called for this purpose in the last 24 hours, or the call
            was confirmed before.
        PhoneTaken: the number belongs to another account; nothing is stored.
    """
    database = router.db_for_write(Phone)
    now = timezone.now()
    account = account_of(user)
    waiting = Verification.objects.using(database).filter(
        purpose=purpose, state=Verification.State.PENDING, created_at__gte=now - CONFIRMED_WITHIN
    )
    called = waiting.filter(phone__number=phones.parse(phone)).select_related("phone")
    verification = called.order_by("-created_at").first()
    if verification is None or purpose in conf.PURPOSES:
        raise VerificationNotFound
    number: Phone = verification.phone

    def write() -> None:
        row = waiting.filter(pk=verification.pk)
        state = Verification.State.REDEEMED
        if not row.update(state=state, verified_at=now, redeemed_at=now):
            raise VerificationNotFound  # another request was faster
        verification.state, verification.verified_at = state, now
        verification.redeemed_at = now
        verification.record_progress(Call.Progress.COMPLETED)
        number.mark_verified(now)
        transaction.on_commit(
            lambda: signals.phone_verified.send_robust(Verification, verification=verification),
            using=database,
        )
        _give_to(account, number, verification)

    transact(write, database)
    return number


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
    phone = verification.phone
    with transaction.atomic(using=router.db_for_write(Phone)):
        _claim(verification)
        _check_not_taken(phone)
        account = create_user(phone.number)
        _set_owner(phone, account)
        _save_redeemer(verification, account)
        _send_redeemed(phone, account, verification)
    return account, phone


def create_user(*, password: str, **fields: Any) -> AbstractBaseUser:
    """Create and save an account of the site's user model, with its manager if possible."""
    model = get_user_model()
    manager: Any = model._default_manager
    if hasattr(manager, "create_user"):
        account: AbstractBaseUser = manager.create_user(password=password, **fields)
        return account
    account = model(**fields)
    account.set_password(password)
    account.save()
    return account


def account_of(user: Person) -> Account:
    """Return the user if they are logged in, or None."""
    return user if user is not None and user.is_authenticated else None


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
    verification.record_progress(Call.Progress.COMPLETED)


def _give_to(account: Account, phone: Phone, verification: Verification) -> None:
    """Make a redeemed number that of an account, if there is one, and send the signal."""
    if account is not None:
        _lock(account)
        _check_not_taken(phone, account)
        _set_owner(phone, account)
        _save_number(account, phone.number)
        _save_redeemer(verification, account)
    _send_redeemed(phone, account, verification)


def _lock(account: Account) -> None:
    """Lock the account: two numbers redeemed at once must not both become its number."""
    accounts = get_user_model()._base_manager.select_for_update().order_by()
    if not accounts.filter(pk=account.pk).values_list("pk").first():
        raise InvalidToken  # it was deleted in the meantime


def _check_not_taken(phone: Phone, account: Account = None) -> None:
    """Raise `PhoneTaken` if another account has the number, in our row or in the site's field."""
    if phone.owner_id is not None and (account is None or phone.owner_id != account.pk):
        raise PhoneTaken
    name = conf.USER_PHONE_FIELD
    # A field that is not unique may contain unverified numbers, so it is not checked.
    if name and getattr(get_user_model()._meta.get_field(name), "unique", False):
        others = get_user_model()._base_manager.filter(**{name: phone.number})
        if (others.exclude(pk=account.pk) if account else others).exists():
            raise PhoneTaken


def _save_number(account: Account, number: str) -> None:
    """Save a redeemed number in the account's ``USER_PHONE_FIELD``."""
    if name := conf.USER_PHONE_FIELD:
        setattr(account, name, number)
        account.save(update_fields=[name])


def _set_owner(phone: Phone, account: Account) -> None:
    """Assign a number to an account, and release the account's previous number."""
    Phone.objects.filter(owner=account).exclude(pk=phone.pk).update(owner=None)
    free = Phone.objects.filter(Q(owner=None) | Q(owner=account), pk=phone.pk)
    if not free.update(owner=account):
        raise PhoneTaken
    phone.owner = account


def _save_redeemer(verification: Verification, account: Account) -> None:
    """Store who redeemed the verification, for the admin."""
    Verification.objects.filter(pk=verification.pk).update(redeemed_by=account)
    verification.redeemed_by = account


def _send_redeemed(phone: Phone, user: Account, verification: Verification) -> None:
    transaction.on_commit(
        lambda: signals.phone_redeemed.send_robust(
            Phone, phone=phone, user=user, verification=verification
        ),
        using=router.db_for_write(Phone),
    )
