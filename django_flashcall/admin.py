"""The admin: what was sent and what became of it. Read-only, numbers masked, never a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .models import Attempt, Call, Phone, Verification

if TYPE_CHECKING:  # generic for the type checker alone
    ModelAdmin = admin.ModelAdmin[Any]
    CallTable = admin.TabularInline[Call, Verification]
    AttemptTable = admin.TabularInline[Attempt, Verification]
else:
    ModelAdmin, CallTable, AttemptTable = (
        admin.ModelAdmin,
        admin.TabularInline,
        admin.TabularInline,
    )


class HistoryAdmin(ModelAdmin):
    """Rows that are history: looked at, never added, changed or deleted by hand."""

    date_hierarchy = "created_at"
    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow the filters on the page and nothing else: no column is guessed bit by bit."""
        field = lookup.split("__")[0]
        return field in ("created_at", *self.list_filter) and super().lookup_allowed(
            lookup, value, request
        )

    def get_list_display(self, request: HttpRequest) -> Any:
        """Show whole numbers to those who may see them."""
        if not may_see_numbers(request):
            return self.list_display
        return [name if name != "masked" else "number" for name in self.list_display]

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        if not may_see_numbers(request):
            return self.fields
        return [name if name != "masked" else "number" for name in self.fields or ()]

    @admin.display(description=_("number"))
    def masked(self, obj: Any) -> str:
        phone: Phone = obj.phone
        return phone.masked

    @admin.display(description=_("number"))
    def number(self, obj: Any) -> str:
        phone: Phone = obj.phone
        return phone.number


def may_see_numbers(request: HttpRequest) -> bool:
    return request.user.has_perm("django_flashcall.view_number")


class CallInline(CallTable):
    model = Call
    fields = readonly_fields = (
        "created_at",
        "channel",
        "backend",
        "status",
        "error_code",
        "provider_id",
        "provider_code",
        "provider_message",
    )
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AttemptInline(AttemptTable):
    model = Attempt
    fields = readonly_fields = ("created_at", "right", "ip")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("django_flashcall.view_verification")


@admin.register(Verification)
class VerificationAdmin(HistoryAdmin):
    list_display = ("id", "masked", "purpose", "channel", "shown_status", "created_at")
    list_filter = ("state", "purpose", "channel")
    list_select_related = ("phone",)
    fields = (
        "id",
        "masked",
        "purpose",
        "channel",
        "shown_status",
        "attempts_left",
        "calls_left",
        "user",
        "ip",
        "created_at",
        "expires_at",
        "verified_at",
        "redeemed_at",
    )
    inlines = (CallInline, AttemptInline)

    @admin.display(description=_("status"), ordering="state")
    def shown_status(self, obj: Verification) -> str:
        if obj.status == Verification.EXPIRED:
            return str(_("expired"))
        return str(Verification.State(obj.status).label)


@admin.register(Call)
class CallAdmin(HistoryAdmin):
    list_display = (
        "created_at",
        "masked",
        "channel",
        "backend",
        "status",
        "error_code",
        "provider_id",
        "is_test",
    )
    list_filter = ("status", "channel", "backend", "is_test")
    list_select_related = ("phone",)
    fields = (
        "verification",
        "masked",
        "channel",
        "backend",
        "status",
        "error_code",
        "reference",
        "provider_id",
        "provider_code",
        "provider_message",
        "is_test",
        "created_at",
        "answered_at",
    )
