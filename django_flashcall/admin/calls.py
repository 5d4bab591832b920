"""The admin of calls, with the pages for statistics, export and test calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..decorators import non_atomic
from ..models import Call
from . import display, export, health, search, statistics, test_call
from .base import (
    HistoryAdmin,
    badge,
    format_datetime,
    format_duration,
    mask_numbers,
    may,
    two_lines,
)
from .filters import BackendFilter, DateFilter, ReasonFilter


@admin.register(Call)
class CallAdmin(HistoryAdmin):
    change_list_template = "admin/django_flashcall/calls.html"
    list_display = (
        "when",
        "masked",
        "channel_and_backend",
        "status_and_reason",
        "operator_name",
        "duration",
    )
    heading = _("Call to %(number)s")
    list_filter = ("status", "channel", BackendFilter, ReasonFilter, ("created_at", DateFilter))
    list_select_related = ("phone",)
    search_fields = ("phone__number",)  # see `get_search_results`
    search_help_text = _(
        "A phone number in any format, the provider's identifier, our identifier, "
        "or a verification ID."
    )
    linked = frozenset({"phone", "verification"})
    disclosed: ClassVar = {**HistoryAdmin.disclosed, "masked_message": "provider_message"}
    fieldsets: ClassVar = [
        (
            None,
            {
                "fields": [
                    "timeline",
                    ("masked", "shown_status", "reason"),
                    ("shown_channel", "backend"),
                ]
            },
        ),
        (
            _("Provider response"),
            {"fields": [("provider_id", "provider_code", "needs_attention"), "masked_message"]},
        ),
        (_("Delivery reports"), {"fields": [("operator_name", "price")]}),
        (_("Time"), {"fields": [("requested", "answered", "duration"), "reference"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        def view(page: Callable[..., Any]) -> Any:
            return self.admin_site.admin_view(partial(page, self))

        name = "django_flashcall_call_%s"
        # No transaction may stay open during the provider request, nor roll back its counts.
        call_view = non_atomic(view(test_call.page))
        return [
            path("export/", view(export.export), name=name % "export"),
            path("statistics/", view(statistics.page), name=name % "statistics"),
            path("test-call/", call_view, name=name % "test"),
            path("resume/<str:alias>/", view(health.resume), name=name % "resume"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        Call.settle_lost()  # the filters and the counts use what is stored
        tools = {
            "may_export": self.has_export_permission(request),
            "may_place_test_call": may(request, "place_test_call"),
        }
        return super().changelist_view(request, {**tools, **(extra_context or {})})

    def has_export_permission(self, request: HttpRequest) -> bool:
        return may(request, "export_call") and self.has_view_permission(request)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        term = search_term.strip()
        return (search.by_call(request, queryset, term) if term else queryset), False

    @admin.display(description=_("channel"))
    def shown_channel(self, call: Call) -> str:
        name = display.channel_name(call.channel)
        return f"{name} ({_('not placed')})" if call.is_test else name

    @admin.display(description=_("channel"))
    def channel_and_backend(self, call: Call) -> str:
        return two_lines(self.shown_channel(call), call.backend)

    @admin.display(description=_("status"))
    def status_and_reason(self, call: Call) -> str:
        return two_lines(self.shown_status(call), display.reason(call))

    @admin.display(description=_("status"))
    def shown_status(self, call: Call) -> str:
        return display.call_status(call.status)

    @admin.display(description=_("reason"))
    def reason(self, call: Call) -> str:
        return display.reason(call) or "–"

    @admin.display(description=_("operator"))
    def operator_name(self, call: Call) -> str:
        return display.operator_name(call) or "–"

    @admin.display(description=_("requested"))
    def requested(self, call: Call) -> str:
        return format_datetime(call.created_at)

    @admin.display(description=_("response time"))
    def duration(self, call: Call) -> str:
        return format_duration(call.duration)

    @admin.display(description=_("provider responded"))
    def answered(self, call: Call) -> str:
        return format_datetime(call.answered_at)

    @admin.display(description=_("needs attention"))
    def needs_attention(self, call: Call) -> str:
        return badge("refused", _("yes")) if call.must_mend else str(_("no"))

    @admin.display(description=_("provider message"))
    def masked_message(self, call: Call) -> str:
        return mask_numbers(call.provider_message) or "–"

    @admin.display(description=_("verification"))
    def timeline(self, call: Call) -> str:
        name = "admin:django_flashcall_verification_change"
        url = reverse(name, args=(call.verification_id,), current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, _("Show verification"))
