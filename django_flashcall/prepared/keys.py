"""Primary keys of accounts: any type that a site's user model has."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import models

PLAIN: dict[type[Any], type[Any]] = {
    models.AutoField: int,
    models.BigAutoField: int,
    models.SmallAutoField: int,
    models.IntegerField: int,
    models.BigIntegerField: int,
    models.PositiveBigIntegerField: int,
    models.UUIDField: UUID,
    models.CharField: str,
}
"""Fields that leave their keys as they are, so that a placeholder can stand there."""


def is_key_of(account: Any, key: Any) -> bool:
    """Return True if a key is the primary key of an account; False for a visitor without one.

    Until an account is loaded again, its key can have another type than the database returns, such
    as the default of its field.
    """
    if key is None or account.pk is None:
        return False
    field = _field(account)
    return bool(field.to_python(account.pk) == field.to_python(key))


def has_plain_key(account: Any) -> bool:
    """Return True if the primary key of an account can be a value of a prepared statement."""
    field = _field(account)
    while field.remote_field is not None:  # of a parent model
        field = field.target_field
    return type(account.pk) is PLAIN.get(type(field))


def _field(account: Any) -> Any:
    # The user of a JSON web token is no model.
    return (getattr(account, "_meta", None) or get_user_model()._meta).pk
