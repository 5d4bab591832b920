"""The admin of blocked requests, and of what the fraud guard narrows, which staff can change."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import formats, timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import phones
from ..exceptions import waiting_time
from ..insight import operators
from ..models import GuardDecision, Refusal
from ..protection import fraud_guard
from . import what_if
from .base import HistoryAdmin, badge, format_datetime, log, mask_numbers, may, two_lines


@admin.register(Refusal)
class RefusalAdmin(HistoryAdmin):
    date_hierarchy = "hour"
    ordering = ("-hour",)
    sortable_by = ("hour",)
    list_display = ("hour", "scope", "reason", "count", "masked_example")
    disclosed: ClassVar = {**HistoryAdmin.disclosed, "masked_example": "example"}
    list_filter = ("scope", "reason")
    fields = list_display

    @admin.display(description=_("latest example"))
    def masked_example(self, refusal: Refusal) -> str:
        is_range = refusal.scope == Refusal.Scope.PREFIX
        return phones.mask_range(refusal.example) if is_range else refusal.example

    def get_queryset(self, request: HttpRequest) -> Any:
        # These rows only record that `budget_spent` was sent.
        return super().get_queryset(request).exclude(reason__startswith="budget_")


BUTTONS = ("open", "close", "watch", "automatic")

Mode = GuardDecision.Mode


@admin.register(GuardDecision)
class GuardDecisionAdmin(HistoryAdmin):
    """What is narrowed, since when and why, and what people decided about it."""

    change_form_template = "admin/django_flashcall/buttons.html"
    change_list_template = "admin/django_flashcall/decisions.html"
    date_hierarchy = "last_at"
    ordering = ("-last_at",)
    sortable_by = ("last_at", "shown_last")
    list_display = (
        "masked_value",
        "scope",
        "decision",
        "unverified_and_allowed",
        "shown_honest",
        "refused_and_passed",
        "shown_last",
        "when",
        "masked_decided",
    )
    list_filter = ("scope", "mode", "denied")
    list_select_related = ("decided_by",)
    search_fields = ("value",)
    search_help_text = _("A range such as +7916123, an IP address, or a country code such as RU.")
    disclosed: ClassVar = {
        **HistoryAdmin.disclosed,
        "masked_decided": "decided",
        "masked_value": "shown_value",
    }
    fields = (
        ("scope", "masked_value"),
        "decision",
        ("when", "shown_last"),
        ("unverified_and_allowed", "shown_honest"),
        "refused_and_passed",
        "passes",
        "masked_decided",
    )
    actions = BUTTONS

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(partial(what_if.page, self))
        name = "django_flashcall_guarddecision_what_if"
        return [path("what-if/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        tools = {"may_try": self.has_block_permission(request)}
        return super().changelist_view(request, {**tools, **(extra_context or {})})

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        term = search_term.strip()
        if term and not may(request, "view_number"):  # a range could be found digit by digit
            queryset = queryset.exclude(scope=GuardDecision.Scope.PREFIX)
        return (queryset.filter(value=term) if term else queryset), False

    def has_block_permission(self, request: HttpRequest) -> bool:
        """Allow users who may block phones to decide instead of the guard."""
        return may(request, "block_phone")

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        decision = kwargs.get("obj")
        context["object_buttons"] = [
            (name, getattr(self, name).short_description)
            for name in BUTTONS
            if decision is not None and self.has_block_permission(request)
            if MODES[name] != decision.mode and fits(decision, name)
        ]
        if decision is not None:
            value = self.shown_value if may(request, "view_number") else self.masked_value
            title = f"{decision.get_scope_display()} {value(decision)}"
            context |= {"title": title, "subtitle": None}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("value"))
    def shown_value(self, decision: GuardDecision) -> str:
        if decision.scope == GuardDecision.Scope.OPERATOR:
            return operators.name(decision.value)
        return decision.value

    @admin.display(description=_("value"))
    def masked_value(self, decision: GuardDecision) -> str:
        is_operator = decision.scope == GuardDecision.Scope.OPERATOR
        return self.shown_value(decision) if is_operator else decision.masked

    @admin.display(description=_("decision"))
    def decision(self, decision: GuardDecision) -> str:
        match decision.mode:
            case Mode.OPEN:
                return badge("good", _("open"))
            case Mode.CLOSED:
                return badge("refused", _("closed"))
            case Mode.WATCH:
                return badge("quiet", _("only watched"))
        if not decision.denied:
            return badge("quiet", _("recorded only"))
        if decision.is_quiet:
            return badge("good", _("no longer narrowed"))
        return badge("doubt", _("narrowed"))

    @admin.display(description=_("since"), ordering="-created_at")
    def when(self, decision: GuardDecision) -> str:
        return format_datetime(decision.created_at)

    @admin.display(description=_("last request refused"), ordering="-last_at")
    def shown_last(self, decision: GuardDecision) -> str:
        return format_datetime(decision.last_at if decision.count else None)

    @admin.display(description=_("not verified (expected)"))
    def unverified_and_allowed(self, decision: GuardDecision) -> str:
        return f"{_number(decision.unverified)} ({_number(decision.allowed)})"

    @admin.display(description=_("verified numbers"))
    def shown_honest(self, decision: GuardDecision) -> str:
        return _number(decision.honest)

    @admin.display(description=_("refused / passed"))
    def refused_and_passed(self, decision: GuardDecision) -> str:
        return f"{decision.count} / {decision.passed}"

    @admin.display(description=_("what passes"))
    def passes(self, decision: GuardDecision) -> str:
        if decision.mode == Mode.CLOSED:
            return str(_("Nothing, until you open it or leave it to the guard."))
        if decision.mode != Mode.AUTO or not decision.denied:
            return str(_("Everything."))
        drip = fraud_guard.what_passes(decision, timezone.now())
        if drip is None:
            return str(_("Everything."))
        return str(
            _("At once: a call every %(wait)s. After asking twice: a call every %(returning)s.")
        ) % {
            "wait": duration(drip.wait),
            "returning": duration(drip.returning),
        }

    @admin.display(description=_("decided by"))
    def decided(self, decision: GuardDecision) -> str:
        return _decided(decision, str)

    @admin.display(description=_("decided by"))
    def masked_decided(self, decision: GuardDecision) -> str:
        return _decided(decision, mask_numbers)

    # Actions of the list. The buttons on the page of a decision post to them too.

    @admin.action(description=_("Open: place all calls"), permissions=["block"])
    def open(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._decide(request, queryset, "open")

    @admin.action(description=_("Close: refuse all calls"), permissions=["block"])
    def close(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._decide(request, queryset, "close")

    @admin.action(description=_("Watch: only record"), permissions=["block"])
    def watch(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._decide(request, queryset, "watch")

    @admin.action(description=_("Leave it to the guard"), permissions=["block"])
    def automatic(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return self._decide(request, queryset, "automatic")

    def _decide(self, request: HttpRequest, queryset: Any, name: str) -> HttpResponse | None:
        mode = MODES[name]
        wanted = list(queryset.exclude(mode=mode))
        rows = [row for row in wanted if fits(row, name)]
        for row in rows:
            row.mode, row.decided_at, row.decided_by = mode, timezone.now(), request.user
            row.save(update_fields=["mode", "decided_at", "decided_by"])
            log(request, row, CHANGE, str(mode.label), str(row))
        text = ngettext("%d decision changed.", "%d decisions changed.", len(rows))
        level = messages.SUCCESS if rows else messages.WARNING
        self.message_user(request, text % len(rows), level)
        if len(rows) < len(wanted):
            never = _("Countries and operators cannot be closed. Deny a country with a rule.")
            self.message_user(request, never, messages.WARNING)
        if len(rows) == 1:
            page = "admin:django_flashcall_guarddecision_change"
            url = reverse(page, args=(rows[0].pk,), current_app=self.admin_site.name)
            return HttpResponseRedirect(url)
        return None


def _number(value: float) -> str:
    return formats.number_format(round(value, 1), 1)  # it does not round


def _decided(decision: GuardDecision, shown: Callable[[str], str]) -> str:
    if not decision.decided_at:
        return "–"
    name = shown(str(decision.decided_by or ""))
    return two_lines(format_datetime(decision.decided_at), name)


MODES = {"open": Mode.OPEN, "close": Mode.CLOSED, "watch": Mode.WATCH, "automatic": Mode.AUTO}


def fits(decision: GuardDecision, name: str) -> bool:
    """Return True if an action can change a decision: countries and operators are never closed."""
    is_wide = decision.scope in (GuardDecision.Scope.COUNTRY, GuardDecision.Scope.OPERATOR)
    return not (is_wide and name == "close")


def duration(value: timedelta) -> str:
    """Return a time to wait in words; it can be nothing."""
    return waiting_time(math.ceil(value.total_seconds()))
