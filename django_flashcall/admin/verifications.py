"""The admin of verifications, with a timeline of each on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..insight import timeline
from ..models import Verification
from . import display, search
from .base import HistoryAdmin, format_datetime, format_duration, mask_numbers, may
from .filters import DateFilter, PurposeFilter, StatusFilter


@admin.register(Verification)
class VerificationAdmin(HistoryAdmin):
    change_form_template = "admin/django_flashcall/timeline.html"
    list_display = ("when", "masked", "purpose", "shown_channel", "shown_status", "attempts", "id")
    heading = _("Verification of %(number)s")
    list_display_links = ("when", "id")
    list_filter = (StatusFilter, PurposeFilter, "channel", ("created_at", DateFilter))
    list_select_related = ("phone",)
    search_fields = ("phone__number",)  # see `get_search_results`
    search_help_text = _("A phone number in any format, or a verification ID.")
    linked = frozenset({"phone"})
    fields = (
        ("masked", "shown_status"),
        ("purpose", "shown_channel"),
        ("attempts", "calls_left", "expires"),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        # Only the page of one verification shows the users.
        if request.resolver_match and request.resolver_match.kwargs.get("object_id"):
            rows = rows.select_related("phone", "user", "redeemed_by", "former_owner")
        return rows

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        term = search_term.strip()
        return (search.by_verification(request, queryset, term) if term else queryset), False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if (verification := kwargs.get("obj")) is not None:
            context["events"] = [
                _event_context(request, event) for event in timeline.of(verification)
            ]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("channel"))
    def shown_channel(self, verification: Verification) -> str:
        return display.channel_name(verification.channel)

    @admin.display(description=_("status"))
    def shown_status(self, verification: Verification) -> str:
        return display.verification_status(verification.status)

    @admin.display(description=_("attempts"))
    def attempts(self, verification: Verification) -> str:
        made = verification.max_attempts - verification.attempts_left
        return _("%(made)d of %(all)d") % {"made": made, "all": verification.max_attempts}

    @admin.display(description=_("expires"))
    def expires(self, verification: Verification) -> str:
        return format_datetime(verification.expires_at)


def _event_context(request: HttpRequest, event: timeline.Event) -> dict[str, Any]:
    """Return what ``event.html`` needs to show an event."""
    shown = str if may(request, "view_number") else mask_numbers
    context: dict[str, Any] = {
        "kind": event.name,
        "at": format_datetime(event.at) if event.at else gettext("time not recorded"),
        "number": event.number,
        "row": event.row,
    }
    match event.kind:
        case timeline.Kind.STARTED:
            context["user"] = event.row.user and shown(str(event.row.user))
        case timeline.Kind.CALL:
            context["channel"] = display.channel_name(event.row.channel)
        case timeline.Kind.ANSWER:
            context["message"] = shown(event.row.provider_message)
            context["duration"] = format_duration(event.row.duration)
        case timeline.Kind.REDEEMED:
            for name in ("redeemed_by", "former_owner"):
                account = getattr(event.row, name)
                context[name] = account and shown(str(account))
        case timeline.Kind.REPORT:
            context["outcome"] = display.call_status(event.row.outcome)
            context["reason"] = display.reason(event.row)
            context["operator"] = display.operator_name(event.row)
            context["done"] = format_datetime(event.row.done_at) if event.row.done_at else ""
    return context
