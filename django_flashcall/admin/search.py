"""Search by any way of writing a number, and by identifiers; each through an index.

Without the permission to see numbers only a whole one is found, and nothing tells how near a wrong
one was.
"""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from .. import phones
from ..exceptions import InvalidPhone
from ..models import Call, Phone, Verification
from .base import may

SHORTEST_PREFIX = 3
"""Characters of a prefix worth searching for, the plus included."""


def by_phone(request: HttpRequest, rows: QuerySet[Phone], term: str) -> QuerySet[Phone]:
    """Find phones by number, or by the name that their owner logs in with."""
    try:
        number = phones.parse(term)
    except InvalidPhone:
        number = None
    if number is not None:
        return rows.filter(number=number)
    if (prefix := _prefix(request, term)) is not None:
        return rows.filter(number__startswith=prefix)
    name = f"owner__{get_user_model().USERNAME_FIELD}"
    return rows.filter(Q(**{name: term}))


def by_verification(
    request: HttpRequest, rows: QuerySet[Verification], term: str
) -> QuerySet[Verification]:
    """Find verifications by number or by their id."""
    if (id := _uuid(term)) is not None:
        return rows.filter(pk=id)
    return rows.filter(phone__in=_phones(request, term))


def by_call(request: HttpRequest, rows: QuerySet[Call], term: str) -> QuerySet[Call]:
    """Find calls by number, by the provider's identifier, by ours, or by their verification's."""
    if (id := _uuid(term)) is not None:
        # Not in one condition with others: each of these has an index, and the database uses both.
        return rows.filter(Q(reference=id) | Q(verification=id))
    if Call.objects.filter(provider_id=term).exists():
        # The provider's identifiers are digits, and may look like a number too.
        keys = list(_phones(request, term, whole=True).values_list("pk", flat=True))
        return rows.filter(Q(provider_id=term) | Q(phone__in=keys))
    return rows.filter(phone__in=_phones(request, term))


def _phones(request: HttpRequest, term: str, *, whole: bool = False) -> QuerySet[Phone]:
    try:
        return Phone.objects.filter(number=phones.parse(term))
    except InvalidPhone:
        pass
    prefix = None if whole else _prefix(request, term)
    if prefix is None:
        return Phone.objects.none()
    return Phone.objects.filter(number__startswith=prefix)


def _prefix(request: HttpRequest, term: str) -> str | None:
    """The beginning of a number that the visitor may search by, or None."""
    if not may(request, "view_number"):
        return None
    try:
        prefix = phones.parse_prefix(term)
    except InvalidPhone:
        return None
    return prefix if len(prefix) >= SHORTEST_PREFIX else None


def _uuid(term: str) -> UUID | None:
    """Read an id as people copy it: with dashes or without."""
    term = term.strip()
    if len(term) not in (32, 36):
        return None
    try:
        return UUID(term)
    except ValueError:
        return None
