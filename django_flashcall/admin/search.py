"""Search by phone number in any format, and by identifier. Every search uses an index.

Users without the permission to see numbers find full numbers only, so that a search does not reveal
a part of one.
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
"""Minimum length of a prefix to search for, including the plus."""


def by_phone(request: HttpRequest, rows: QuerySet[Phone], term: str) -> QuerySet[Phone]:
    """Find phones by number, or by the username of their owner."""
    try:
        number = phones.parse(term)
    except InvalidPhone:
        number = None
    if number is not None:
        return rows.filter(number=number)
    name = f"owner__{get_user_model().USERNAME_FIELD}"
    try:
        named = rows.filter(**{name: term})
    except ValueError:  # usernames are numbers
        named = rows.none()
    prefix = _prefix(request, term)
    if prefix is None or named.exists():
        return named
    return _starting_with(rows, prefix)


def by_verification(
    request: HttpRequest, rows: QuerySet[Verification], term: str
) -> QuerySet[Verification]:
    """Find verifications by number or by ID."""
    if (id := _uuid(term)) is not None:
        return rows.filter(pk=id)
    return rows.filter(phone__in=_phones(request, term))


def by_call(request: HttpRequest, rows: QuerySet[Call], term: str) -> QuerySet[Call]:
    """Find calls by number, provider ID, reference or verification ID."""
    if (id := _uuid(term)) is not None:
        # Do not add other conditions: these two each have an index, and the database uses both.
        return rows.filter(Q(reference=id) | Q(verification=id))
    if Call.objects.filter(provider_id=term).exists():
        # A provider ID can look like a phone number.
        keys = list(_phones(request, term, full=True).values_list("pk", flat=True))
        return rows.filter(Q(provider_id=term) | Q(phone__in=keys))
    return rows.filter(phone__in=_phones(request, term))


def _phones(request: HttpRequest, term: str, *, full: bool = False) -> QuerySet[Phone]:
    try:
        return Phone.objects.filter(number=phones.parse(term))
    except InvalidPhone:
        pass
    prefix = None if full else _prefix(request, term)
    if prefix is None:
        return Phone.objects.none()
    return _starting_with(Phone.objects.all(), prefix)


def _starting_with(rows: QuerySet[Phone], prefix: str) -> QuerySet[Phone]:
    """Return the phones whose number starts with a prefix, by the index of numbers.

    PostgreSQL would need another index for LIKE.
    """
    return rows.filter(number__gte=prefix, number__lte=prefix.ljust(16, "9"))


def _prefix(request: HttpRequest, term: str) -> str | None:
    """Return the prefix to search for; None if it is invalid or the user may not see numbers."""
    if not may(request, "view_number"):
        return None
    try:
        prefix = phones.parse_prefix(term)
    except InvalidPhone:
        return None
    return prefix if len(prefix) >= SHORTEST_PREFIX else None


def _uuid(term: str) -> UUID | None:
    """Parse a UUID with or without dashes; return None if it is not one."""
    term = term.strip()
    if len(term) not in (32, 36):
        return None
    try:
        return UUID(term)
    except ValueError:
        return None
