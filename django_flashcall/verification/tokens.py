"""Tokens: the signed proof of a verified number, read, and redeemed once for an owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.db import router, transaction
from django.db.models import Q
from django.utils import timezone

from .. import signals
from ..conf import conf
from ..exceptions import InvalidToken, PhoneTaken
from ..models import Phone, Verification
from ..redaction import Secret

User = TypeVar("User", bound=AbstractBaseUser)
Person = AbstractBaseUser | AnonymousUser | None
Account = Any
"""An instance of ``AUTH_USER_MODEL``, whatever model that is."""

SALT = "django_flashcall.token"


def issue(verification: Verification) -> Secret:
    """Return the token of a verification that has just succeeded."""
    return Secret(signing.dumps(verification.pk.hex, salt=SALT))


def read_token(
    token: str, *, purpose: str = "signup", user: Person = None, session: str | None = None
) -> Verification:
    """Return the verification that a token proves, and leave the token unspent.

    Args: as those of `redeem`.

    Raises:
        InvalidToken: forged, old or used, or for another purpose or person.
    """
    serves = conf.PURPOSES.get(purpose)
    if serves is None:
        raise InvalidToken
    try:
        id = UUID(signing.loads(token, salt=SALT, max_age=serves.token_max_age))
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
    """Spend a token; the number becomes the user's, and the user's former number is freed.

    Joins the caller's transaction: if that is rolled back, the token is unspent again.

    Args:
        token: what `check` returned.
        purpose: the purpose it must have been started for.
        user: the account that gets the number, saved already; None leaves the owner as it is, for
            purposes such as login. A verification that a user started serves that user alone.
        session: the random value of the visitor's session.

    Returns:
        the number.

    Raises:
        InvalidToken: forged, old or used, or for another purpose or person.
        PhoneTaken: the number belongs to another account; the token stays unspent.
    """
    verification = read_token(token, purpose=purpose, user=user, session=session)
    phone = verification.phone
    account = account_of(user)
    with transaction.atomic(using=router.db_for_write(Phone)):
        _claim(verification)
        if account is not None:
            # Two numbers redeemed at once for one account must not both become its number.
            get_user_model()._base_manager.select_for_update().get(pk=account.pk)
            _refuse_taken(phone, account)
            _own(phone, account)
            _fill(account, phone.number)
            _remember(verification, account)
        _announce(phone, account, verification)
    return phone


def sign_up(
    token: str,
    create_user: Callable[[str], User],
    *,
    user: Person = None,
    session: str | None = None,
) -> tuple[User, Phone]:
    """Spend a token of purpose ``signup`` on a new account, in one transaction.

    Args:
        token: what `check` returned.
        create_user: makes and saves the account; it is given the number in E.164, for
            ``USER_PHONE_FIELD``. Whatever it raises leaves the token unspent.
        user: who is logged in while signing up, if anybody: the verification may be theirs.
        session: the random value of the visitor's session.

    Returns:
        the account, and the number that is now its own.

    Raises:
        InvalidToken, PhoneTaken: as `redeem`.
    """
    verification = read_token(token, purpose="signup", user=user, session=session)
    phone = verification.phone
    with transaction.atomic(using=router.db_for_write(Phone)):
        _claim(verification)
        _refuse_taken(phone)
        account = create_user(phone.number)
        _own(phone, account)
        _remember(verification, account)
        _announce(phone, account, verification)
    return account, phone


def create_user(*, password: str, **fields: Any) -> AbstractBaseUser:
    """Make and save an account of whatever user model the site has, as its manager does it."""
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
    """Return the account that somebody is logged in with, or None."""
    return user if user is not None and user.is_authenticated else None


def _claim(verification: Verification) -> None:
    """Spend its token; of any number of simultaneous claims one succeeds.

    The first statement of its transaction: SQLite lets none that has read wait for a writer.
    """
    now = timezone.now()
    row = Verification.objects.filter(pk=verification.pk, state=Verification.State.VERIFIED)
    if not row.update(state=Verification.State.REDEEMED, redeemed_at=now):
        raise InvalidToken
    verification.state, verification.redeemed_at = Verification.State.REDEEMED, now


def _refuse_taken(phone: Phone, account: Account = None) -> None:
    """Raise `PhoneTaken` if another account holds the number, by our row or by the site's field."""
    if phone.owner_id is not None and (account is None or phone.owner_id != account.pk):
        raise PhoneTaken
    name = conf.USER_PHONE_FIELD
    # A field that is not unique may hold numbers that nobody verified: they take nothing.
    if name and getattr(get_user_model()._meta.get_field(name), "unique", False):
        others = get_user_model()._base_manager.filter(**{name: phone.number})
        if (others.exclude(pk=account.pk) if account else others).exists():
            raise PhoneTaken


def _fill(account: Account, number: str) -> None:
    """Write a redeemed number into the site's own field of the account."""
    if name := conf.USER_PHONE_FIELD:
        setattr(account, name, number)
        account.save(update_fields=[name])


def _own(phone: Phone, account: Account) -> None:
    """Make a number an account's, and free the account's former number."""
    Phone.objects.filter(owner=account).exclude(pk=phone.pk).update(owner=None)
    free = Phone.objects.filter(Q(owner=None) | Q(owner=account), pk=phone.pk)
    if not free.update(owner=account):
        raise PhoneTaken
    phone.owner = account


def _remember(verification: Verification, account: Account) -> None:
    """Write down who redeemed it, for the admin."""
    Verification.objects.filter(pk=verification.pk).update(redeemed_by=account)
    verification.redeemed_by = account


def _announce(phone: Phone, user: Account, verification: Verification) -> None:
    transaction.on_commit(
        lambda: signals.phone_redeemed.send_robust(
            Phone, phone=phone, user=user, verification=verification
        ),
        using=router.db_for_write(Phone),
    )
