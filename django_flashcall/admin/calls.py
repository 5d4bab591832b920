"""Calls: what was asked of a provider, what it said, and what became of it."""

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
from . import display, export, search, statistics, test_call
from .base import HistoryAdmin, badge, conceal, duration, may, moment, two_lines
from .filters import BackendFilter, DateFilter, ReasonFilter


@admin.register(Call)
class CallAdmin(HistoryAdmin):
    change_list_template = "admin/django_flashcall/calls.html"
    list_display = (
        "when",
        "masked",
        "way_through",
        "what_became",
        "network_name",
        "provider_took",
    )
    list_filter = ("status", "channel", BackendFilter, ReasonFilter, ("created_at", DateFilter))
    list_select_related = ("phone",)
    search_fields = ("phone__number",)  # see `get_search_results`
    search_help_text = _(
        "A phone number in any format, or an identifier: the provider's, ours, "
        "or the verification's."
    )
    linked = frozenset({"phone", "verification"})
    disclosed: ClassVar = {**HistoryAdmin.disclosed, "concealed": "provider_message"}
    fieldsets: ClassVar = [
        (None, {"fields": ["timeline", ("masked", "shown_status", "reason"), ("way", "backend")]}),
        (
            _("Provider response"),
            {"fields": [("provider_id", "provider_code", "mend"), "concealed"]},
        ),
        (_("Delivery reports"), {"fields": [("network_name", "price")]}),
        (_("When"), {"fields": [("when", "answered", "provider_took"), "reference"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        def view(page: Callable[..., Any]) -> Any:
            return self.admin_site.admin_view(partial(page, self))

        name = "django_flashcall_call_%s"
        # No transaction is open while the provider is asked, and none undoes a count.
        call_view = non_atomic(view(test_call.page))
        return [
            path("export/", view(export.export), name=name % "export"),
            path("statistics/", view(statistics.page), name=name % "statistics"),
            path("test-call/", call_view, name=name % "test"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
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
    def way(self, call: Call) -> str:
        words = display.channel(call.channel)
        return f"{words} ({_('test number')})" if call.is_test else words

    @admin.display(description=_("channel"))
    def way_through(self, call: Call) -> str:
        return two_lines(self.way(call), call.backend)

    @admin.display(description=_("status"))
    def what_became(self, call: Call) -> str:
        return two_lines(self.shown_status(call), self.reason(call))

    @admin.display(description=_("status"))
    def shown_status(self, call: Call) -> str:
        return display.call_status(call.status)

    @admin.display(description=_("reason"), empty_value="")
    def reason(self, call: Call) -> str:
        return display.reason(call)

    @admin.display(description=_("operator"), empty_value="")
    def network_name(self, call: Call) -> str:
        return display.network(call)

    @admin.display(description=_("duration"))
    def provider_took(self, call: Call) -> str:
        return duration(call.took)

    @admin.display(description=_("answered"))
    def answered(self, call: Call) -> str:
        return moment(call.answered_at)

    @admin.display(description=_("needs attention"))
    def mend(self, call: Call) -> str:
        return badge("refused", _("yes")) if call.must_mend else str(_("no"))

    @admin.display(description=_("provider message"))
    def concealed(self, call: Call) -> str:
        return conceal(call.provider_message)

    @admin.display(description=_("verification"))
    def timeline(self, call: Call) -> str:
        name = "admin:django_flashcall_verification_change"
        url = reverse(name, args=(call.verification_id,), current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, _("Timeline"))
