"""Accounts of the site: who a visitor is, who may log in, and new accounts."""

from __future__ import annotations

import string
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import router
from django.db.models import CharField, Model
from django.utils.crypto import get_random_string

from ..conf import conf
from ..prepared.keys import is_key_of

Person = AbstractBaseUser | AnonymousUser | None
Account = Any
"""An instance of ``AUTH_USER_MODEL``."""

RANDOM_NAME = string.ascii_lowercase + string.digits
RANDOM_NAME_LENGTH = 12
"""Random characters of a username: too many possible ones to take one that exists (36^12)."""


def account_of(user: Person) -> Account:
    """Return the account of a visitor who is logged in, or None.

    A user who is no model, as of a JSON web token, is loaded; None if the account was deleted.
    """
    if user is None or not user.is_authenticated:
        return None
    if isinstance(user, Model):
        return user
    model = get_user_model()
    return model._base_manager.using(router.db_for_write(model)).filter(pk=user.pk).first()


def create_user(*, password: str | None, **fields: Any) -> AbstractBaseUser:
    """Create and save an account of the site's user model, with its manager if possible.

    Args:
        password: the password; None for an account without one.
        fields: the other fields of the account.
    """
    model = get_user_model()
    manager: Any = model._default_manager
    if hasattr(manager, "create_user"):
        account: AbstractBaseUser = manager.create_user(password=password, **fields)
        return account
    account = model(**fields)
    account.set_password(password)
    account.save()
    return account


def is_name_taken(name: Any) -> bool:
    """Return True if an account has this username in another case, as managers may change it."""
    model: Any = get_user_model()
    if not isinstance(model._meta.get_field(model.USERNAME_FIELD), CharField):
        return False
    accounts = model._base_manager.using(router.db_for_write(model))
    return bool(accounts.filter(**{f"{model.USERNAME_FIELD}__iexact": name}).exists())


def create_for_number(number: str) -> Account:
    """Create and save an account for a number that has none, as ``LOGIN`` says.

    Its username is the number, if ``USER_PHONE_FIELD`` is the username, or else a random name.
    """
    if create := conf.LOGIN.create_user:
        return create(number)
    model: Any = get_user_model()
    empty = model()
    fields = {name: getattr(empty, name) for name in model.REQUIRED_FIELDS}
    fields[model.USERNAME_FIELD] = f"user-{get_random_string(RANDOM_NAME_LENGTH, RANDOM_NAME)}"
    if name := conf.USER_PHONE_FIELD:
        fields[name] = number
    return create_user(password=None, **fields)


def loaded_for_login(account: Account, *, is_new: bool = False) -> Account | None:
    """Return the account as the site's authentication backends load it, ready for Django's `login`.

    The first backend that returns it is used for its session. Django's own returns no inactive
    users. None means that no backend lets the account log in.

    Args:
        account: the account.
        is_new: it was created in this transaction. If the site reads from a replica, which does
            not know it yet, it is not loaded; backends like Django's still refuse inactive users.
    """
    model = get_user_model()
    is_loaded = not is_new or router.db_for_read(model) == router.db_for_write(model)
    for path in settings.AUTHENTICATION_BACKENDS:
        backend: Any = load_backend(path)
        if getattr(type(backend), "get_user", None) in (None, BaseBackend.get_user):
            continue  # it loads nobody
        if is_loaded:
            found = backend.get_user(account.pk)
        else:
            may_log_in = getattr(backend, "user_can_authenticate", lambda account: True)
            found = account if may_log_in(account) else None
        if found is not None and is_key_of(account, found.pk):
            found.backend = path  # as `authenticate` does
            return found
    return None
