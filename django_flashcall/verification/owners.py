"""Owners of numbers: a number has at most one, and an account at most one number.

Every function but `remove_phone` is called inside the transaction that redeems a token.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router, transaction
from django.db.models import Q, QuerySet, UniqueConstraint
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import signals
from ..conf import conf
from ..database_errors import transact
from ..exceptions import InvalidToken, InvalidValue, PhoneNotFound, PhoneTaken
from ..models import Phone, Verification
from ..prepared.keys import is_key_of
from .accounts import Account, Person, account_of

REQUIRED = _("Your account needs a phone number. You can change it.")


def lock_account(account: Account) -> None:
    """Lock the account: two numbers redeemed at once must not both become its number."""
    accounts = get_user_model()._base_manager.select_for_update().order_by()
    if not accounts.filter(pk=account.pk).values_list("pk").first():
        raise InvalidToken  # it was deleted in the meantime


def lock_phone(verification: Verification) -> Phone:
    """Lock the number of a verification, and return it with its current owner."""
    phones = Phone.objects.select_for_update().order_by()
    found = phones.filter(pk=verification.phone_id).first()
    if found is None:
        raise InvalidToken  # it was erased in the meantime
    return found


def may_move(phone: Phone, account: Account = None) -> bool:
    """Return True if ``REASSIGNED_NUMBERS`` lets a number move away from its owner.

    Args:
        phone: a number with an owner.
        account: the account that verified it; None if it has yet to be created.
    """
    rule = conf.REASSIGNED_NUMBERS
    if rule is None or not is_number_optional():
        return False
    if callable(rule):
        return bool(rule(phone, account))
    # A number whose date is not known, from another system, stays.
    oldest = timezone.now() - timedelta(days=rule)
    return phone.verified_at is not None and phone.verified_at < oldest


def is_taken(phone: Phone, account: Account = None) -> bool:
    """Return True if another account has a number, and it cannot be moved."""
    return _is_of_another(phone, account) and not may_move(phone, account)


def free(phone: Phone, account: Account = None) -> Account | None:
    """Make sure that no other account has the number; move it away from one if that is allowed.

    Args:
        phone: the number, locked.
        account: the account that gets it; None if it has yet to be created.

    Returns:
        the former owner, if there was one.

    Raises:
        PhoneTaken: another account has it, in our row or in the site's field.
    """
    former = None
    if _is_of_another(phone, account):
        if not may_move(phone, account):
            raise PhoneTaken
        former = _release(phone)
    name = conf.USER_PHONE_FIELD
    # A field that is not unique may contain unverified numbers, so it is not checked.
    if name and _is_unique(name, always=False):
        others = _accounts().filter(**{name: phone.number})
        if (others.exclude(pk=account.pk) if account else others).exists():
            raise PhoneTaken
    return former


def _accounts() -> QuerySet[Any]:
    """Return all accounts, as this transaction has written them: a replica does not know them."""
    model = get_user_model()
    return model._base_manager.using(router.db_for_write(model))


def _is_of_another(phone: Phone, account: Account) -> bool:
    return phone.owner_id is not None and not (account and is_key_of(account, phone.owner_id))


def owner_of(phone: Phone) -> Account | None:
    """Return the account of a number that this transaction has locked, or None."""
    if phone.owner_id is not None and not Phone.owner.is_cached(phone):
        phone.owner = _accounts().filter(pk=phone.owner_id).first()
    return phone.owner


def _release(phone: Phone) -> Account:
    """Take a number from its owner, and empty their ``USER_PHONE_FIELD`` if it has the number."""
    former: Account = owner_of(phone)
    Phone.objects.filter(pk=phone.pk, owner=former).update(owner=None)
    phone.owner = None
    name = conf.USER_PHONE_FIELD
    # The database compares: a field for numbers can have a format of its own in Python.
    if name and _accounts().filter(pk=former.pk, **{name: phone.number}).exists():
        setattr(former, name, empty_value())
        former.save(update_fields=[name])
    return former


def set_owner(phone: Phone, account: Account, verification: Verification) -> None:
    """Assign a number to an account, and release the account's previous number.

    The number counts as verified when the account verified it: others, who only typed a right
    code, do not renew that.
    """
    phones = Phone.objects.using(router.db_for_write(Phone))
    former = phones.filter(owner=account).exclude(pk=phone.pk).first()
    if former is not None:
        Phone.objects.filter(pk=former.pk, owner=account).update(owner=None)
        _send_changed(account, former, phone)
    own = Phone.objects.filter(Q(owner=None) | Q(owner=account), pk=phone.pk)
    if not own.update(owner=account, verified_at=verification.verified_at):
        raise PhoneTaken
    phone.owner, phone.verified_at = account, verification.verified_at


def save_number(account: Account, number: str) -> None:
    """Save a redeemed number in the account's ``USER_PHONE_FIELD``."""
    if name := conf.USER_PHONE_FIELD:
        setattr(account, name, number)
        account.save(update_fields=[name])


def remove_phone(user: Person) -> None:
    """Release the user's number. It can then be verified for another account.

    Uses the caller's transaction. ``USER_PHONE_FIELD`` is emptied. The signal `phone_changed` is
    sent, so that your site can tell the owner.

    Args:
        user: the saved account.

    Raises:
        PhoneNotFound: the user has no verified number, or is not logged in.
        InvalidValue: ``USER_PHONE_FIELD`` cannot be empty; the number can only be changed.
    """
    account = account_of(user)
    if account is None or account.pk is None:  # not saved, or deleted
        raise PhoneNotFound
    phone = Phone.objects.using(router.db_for_write(Phone)).filter(owner=account).first()
    if phone is None:
        raise PhoneNotFound
    empty = empty_value()

    def write() -> None:
        if not Phone.objects.filter(pk=phone.pk, owner=account).update(owner=None):
            raise PhoneNotFound  # it changed hands in the meantime
        if name := conf.USER_PHONE_FIELD:
            setattr(account, name, empty)
            account.save(update_fields=[name])
        _send_changed(account, phone, None)

    transact(write, router.db_for_write(Phone))


def is_number_optional() -> bool:
    """Return True if an account of the site can be without a number."""
    try:
        empty_value()
    except InvalidValue:
        return False
    return True


def empty_value() -> str | None:
    """Return the value of ``USER_PHONE_FIELD`` for accounts without a number.

    Raises:
        InvalidValue: there is none: the field is required, or unique and never null.
    """
    if conf.USER_PHONE_FIELD is None:
        return None
    field: Any = get_user_model()._meta.get_field(conf.USER_PHONE_FIELD)
    if field.null:
        return None
    if _is_unique(field.name, always=True) or field.name == get_user_model().USERNAME_FIELD:
        raise InvalidValue(REQUIRED)
    return ""


def _is_unique(name: str, *, always: bool) -> bool:
    """Return True if no two accounts can have the same value in a field.

    Args:
        name: the field.
        always: also if the value is empty; a constraint with a condition can allow that.
    """
    meta = get_user_model()._meta
    if getattr(meta.get_field(name), "unique", False):
        return True
    return any(
        isinstance(constraint, UniqueConstraint)
        and constraint.fields == (name,)
        and not (always and constraint.condition)
        for constraint in meta.constraints
    )


def _send_changed(account: Account, former: Phone, phone: Phone | None) -> None:
    transaction.on_commit(
        lambda: signals.phone_changed.send_robust(
            Phone, user=account, former_phone=former, phone=phone
        ),
        using=router.db_for_write(Phone),
    )
