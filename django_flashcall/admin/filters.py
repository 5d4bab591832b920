"""Filters that ask the database for nothing: their choices are known beforehand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..conf import conf
from ..delivery import reasons
from ..models import Call


class BackendFilter(admin.SimpleListFilter):
    """Calls by backend: those of the settings, for the table would have to be read for others."""

    title = _("backend")
    parameter_name = "backend"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(alias, alias) for alias in conf.BACKENDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        return queryset.filter(backend=self.value()) if self.value() else queryset


class ReasonFilter(admin.SimpleListFilter):
    """Calls by the reason why they did not arrive."""

    title = _("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(word, reason.label) for word, reason in reasons.REASONS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


class DateFilter(admin.DateFieldListFilter):
    """Rows by when they began."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = gettext("date")


class PhoneFilter(admin.SimpleListFilter):
    """Phones by what an operator looks for."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("waiting", _("waiting after wrong codes")),
            ("blocked", _("blocked")),
            ("owned", _("with an owner")),
            ("verified", _("verified once")),
            ("never", _("never verified")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "waiting":
                return queryset.filter(waits_until__gt=timezone.now())
            case "blocked":
                return queryset.filter(blocked=True)
            case "owned":
                return queryset.filter(owner__isnull=False)
            case "verified":
                return queryset.filter(verified_at__isnull=False)
            case "never":
                return queryset.filter(verified_at=None)
        return queryset
