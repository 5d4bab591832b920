"""The admin of call devices. It masks numbers unless the user has ``view_number``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_otp.admin import user_model_search_fields

from .models import CallDevice

__all__ = ["CallDeviceAdmin"]

VIEW_NUMBER = "django_flashcall.view_number"


def _search() -> tuple[list[str], str]:
    from django.contrib.auth import get_user_model

    fields, help_text = user_model_search_fields([get_user_model().USERNAME_FIELD, "email"])
    return list(fields), str(help_text)


@admin.register(CallDevice)
class CallDeviceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("user", "name", "masked", "confirmed")
    list_filter = ("confirmed",)
    raw_id_fields = ("user",)
    search_fields, search_help_text = _search()

    def get_fields(self, request: HttpRequest, obj: CallDevice | None = None) -> Any:
        # Who may not see a number may still give a new device one.
        shown = obj is None or request.user.has_perm(VIEW_NUMBER)
        return ("user", "name", "number" if shown else "masked", "confirmed")

    def get_readonly_fields(self, request: HttpRequest, obj: CallDevice | None = None) -> Any:
        return ("masked",)

    @admin.display(description=_("number"))
    def masked(self, device: CallDevice) -> str:
        return device.masked
