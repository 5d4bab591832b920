"""List filters whose choices cost no scan of a table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db import connections, router
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..conf import conf
from ..delivery import reasons
from ..models import Call, Verification
from . import display

LONGEST_VERIFICATION = timedelta(seconds=600)
"""The maximum of ``CODE_TTL``."""

State = Verification.State


class BackendFilter(admin.SimpleListFilter):
    """Filter calls by backend. Offers those in the settings: others would take a table scan."""

    title = _("backend")
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(alias, alias) for alias in conf.BACKENDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        return _filtered(self, queryset, "backend")


class ReasonFilter(admin.SimpleListFilter):
    """Filter calls by failure reason."""

    title = _("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(code, reason.label) for code, reason in reasons.REASONS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        return _filtered(self, queryset, "error_code")


class PurposeFilter(admin.SimpleListFilter):
    """Filter verifications by purpose, also by those of other systems, which no setting lists."""

    title = _("purpose")
    parameter_name = "purpose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in _distinct(Verification, "purpose")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Verification]
    ) -> QuerySet[Verification]:
        return _filtered(self, queryset, "purpose")


class DateFilter(admin.DateFieldListFilter):
    """Filter rows by the date of their creation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = gettext("date")


class StatusFilter(admin.SimpleListFilter):
    """Filter verifications by the status that the list shows, which depends on the time too."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, display.status_name(name)) for name in (*State.values, Verification.EXPIRED)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Verification]
    ) -> QuerySet[Verification]:
        now = timezone.now()
        status = self.value()
        pending = queryset.filter(state=State.PENDING, attempts_left__gt=0)
        if status == State.PENDING:
            # The time of the start has an index.
            recent = pending.filter(created_at__gt=now - LONGEST_VERIFICATION)
            return recent.filter(expires_at__gt=now)
        if status == Verification.EXPIRED:
            return pending.filter(expires_at__lte=now)
        if status == State.FAILED:
            return queryset.filter(Q(state=status) | Q(state=State.PENDING, attempts_left=0))
        if status in State.values:
            return queryset.filter(state=status)
        return queryset if status is None else queryset.none()


class PhoneFilter(admin.SimpleListFilter):
    """Filter phones by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("waiting", _("locked after wrong codes")),
            ("blocked", _("blocked")),
            ("owned", _("with an owner")),
            ("verified", _("verified at least once")),
            ("never", _("never verified")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "waiting":
                now = timezone.now()
                return queryset.filter(Q(waits_until__gt=now) | Q(known_waits_until__gt=now))
            case "blocked":
                return queryset.filter(blocked=True)
            case "owned":
                return queryset.filter(owner__isnull=False)
            case "verified":
                return queryset.filter(verified_at__isnull=False)
            case "never":
                return queryset.filter(verified_at=None)
        return queryset


def _distinct(model: type[Model], name: str) -> list[str]:
    """Return the values of a column that an index begins with, by one lookup for each value.

    PostgreSQL reads the whole index for ``SELECT DISTINCT``.
    """
    connection = connections[router.db_for_read(model)]
    quote = connection.ops.quote_name
    column, table = quote(name), quote(model._meta.db_table)
    least = f"SELECT MIN({column}) AS {column} FROM {table}"  # noqa: S608 - no value in it
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE found AS ({least} UNION ALL "  # noqa: S608
            f"SELECT ({least} WHERE {column} > found.{column}) FROM found "
            f"WHERE found.{column} IS NOT NULL) "
            f"SELECT {column} FROM found WHERE {column} IS NOT NULL"
        )
        return [value for (value,) in cursor]


def _filtered(
    choices: admin.SimpleListFilter, queryset: QuerySet[Any], field: str
) -> QuerySet[Any]:
    """Return the rows with the chosen value; none if it is not one of the choices."""
    value = choices.value()
    if not value:
        return queryset
    known = any(value == choice for choice, _label in choices.lookup_choices)
    return queryset.filter(**{field: value}) if known else queryset.none()
