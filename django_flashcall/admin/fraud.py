"""The admin of blocked requests and fraud guard decisions, which staff can overrule."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..insight import operators
from ..models import GuardDecision, Refusal
from .base import HistoryAdmin, badge, format_datetime, log, may, two_lines


@admin.register(Refusal)
class RefusalAdmin(HistoryAdmin):
    date_hierarchy = "hour"
    ordering = ("-hour",)
    sortable_by = ("hour",)
    list_display = ("hour", "scope", "reason", "count", "example")
    list_filter = ("scope", "reason")
    fields = list_display

    def get_queryset(self, request: HttpRequest) -> Any:
        # These rows only record that `budget_spent` was sent.
        return super().get_queryset(request).exclude(reason__startswith="budget_")


@admin.register(GuardDecision)
class GuardDecisionAdmin(HistoryAdmin):
    list_display = (
        "when",
        "scope",
        "shown_value",
        "decision",
        "unverified_and_allowed",
        "honest",
        "times_applied",
        "overruled",
    )
    list_filter = ("scope", "denied")
    list_select_related = ("overruled_by",)
    search_fields = ("value",)
    search_help_text = _("A range such as +7916123, an IP address, or a country code such as RU.")
    fields = (
        "scope",
        "shown_value",
        "decision",
        "when",
        "unverified",
        "allowed",
        "honest",
        "count",
        "overruled",
    )
    actions = ("overrule", "restore")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        term = search_term.strip()
        return (queryset.filter(value=term) if term else queryset), False

    def has_block_permission(self, request: HttpRequest) -> bool:
        """Allow users who may block phones to overrule and restore decisions."""
        return may(request, "block_phone")

    @admin.display(description=_("value"))
    def shown_value(self, decision: GuardDecision) -> str:
        if decision.scope == GuardDecision.Scope.OPERATOR:
            return operators.name(decision.value)
        return decision.value

    @admin.display(description=_("decision"))
    def decision(self, decision: GuardDecision) -> str:
        if decision.overruled_at:
            return badge("good", _("overruled"))
        if decision.denied:
            return badge("refused", _("refused"))
        return badge("doubt", _("recorded only"))

    @admin.display(description=_("not verified (expected)"))
    def unverified_and_allowed(self, decision: GuardDecision) -> str:
        return f"{decision.unverified} ({decision.allowed})"

    @admin.display(description=_("times"))
    def times_applied(self, decision: GuardDecision) -> int:
        return decision.count

    @admin.display(description=_("overruled"))
    def overruled(self, decision: GuardDecision) -> str:
        if not decision.overruled_at:
            return "–"
        return two_lines(format_datetime(decision.overruled_at), str(decision.overruled_by or ""))

    @admin.action(description=_("Overrule: allow these calls again"), permissions=["block"])
    def overrule(self, request: HttpRequest, queryset: Any) -> None:
        rows = list(queryset.filter(overruled_at=None))
        for row in rows:
            row.overruled_at, row.overruled_by = timezone.now(), request.user
            row.save(update_fields=["overruled_at", "overruled_by"])
            log(request, row, CHANGE, "Overruled.", str(row))
        text = ngettext("%d decision overruled.", "%d decisions overruled.", len(rows))
        self.message_user(request, text % len(rows), messages.SUCCESS)

    @admin.action(description=_("Restore the decision"), permissions=["block"])
    def restore(self, request: HttpRequest, queryset: Any) -> None:
        rows = list(queryset.exclude(overruled_at=None))
        for row in rows:
            row.overruled_at = row.overruled_by = None
            row.save(update_fields=["overruled_at", "overruled_by"])
            log(request, row, CHANGE, "Restored.", str(row))
        text = ngettext("%d decision restored.", "%d decisions restored.", len(rows))
        self.message_user(request, text % len(rows), messages.SUCCESS)
