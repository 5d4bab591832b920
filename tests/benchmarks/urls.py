"""Our admin, and beside it the one that a few lines would give: what the ratios compare with."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path

from django_flashcall.models import Attempt, Call, Verification

plain = admin.AdminSite("plain")


@admin.register(Call, site=plain)
class PlainCallAdmin(admin.ModelAdmin):
    list_display = ("created_at", "phone", "channel", "backend", "status", "error_code", "mcc_mnc")
    list_filter = ("status", "channel", "backend", "error_code", "created_at")
    list_select_related = ("phone",)
    list_per_page = 50
    search_fields = ("phone__number", "provider_id")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)

    def lookup_allowed(self, *args: Any) -> bool:
        return True


class CallInline(admin.TabularInline):
    model = Call
    raw_id_fields = ("phone",)
    extra = 0


class AttemptInline(admin.TabularInline):
    model = Attempt
    extra = 0


@admin.register(Verification, site=plain)
class PlainVerificationAdmin(admin.ModelAdmin):
    inlines = (CallInline, AttemptInline)
    raw_id_fields = ("phone", "user", "redeemed_by")


urlpatterns = [path("admin/", admin.site.urls), path("plain/", plain.urls)]
