"""The admin of call devices. It masks numbers unless the user has ``view_number``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_otp.admin import user_model_search_fields

from ...admin.base import mask_numbers
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

    def get_list_display(self, request: HttpRequest) -> Any:
        if request.user.has_perm(VIEW_NUMBER):
            return self.list_display
        return ("masked_user", *self.list_display[1:])

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow only the filter, so that no number can be found digit by digit."""
        return lookup.split("__")[0] in self.list_filter

    def get_search_fields(self, request: HttpRequest) -> Any:
        if request.user.has_perm(VIEW_NUMBER):
            return self.search_fields
        # A username can be a number, which nobody should find digit by digit.
        return [f"{name}__exact" for name in self.search_fields]

    def get_fields(self, request: HttpRequest, obj: CallDevice | None = None) -> Any:
        # Who may not see a number may still give a new device one.
        shown = obj is None or request.user.has_perm(VIEW_NUMBER)
        if shown:
            return ("user", "name", "number", "confirmed")
        return ("masked_user", "name", "masked", "confirmed")

    def get_readonly_fields(self, request: HttpRequest, obj: CallDevice | None = None) -> Any:
        return ("masked", "masked_user")

    @admin.display(description=_("user"))
    def masked_user(self, device: CallDevice) -> str:
        return mask_numbers(str(device.user))

    @admin.display(description=_("number"))
    def masked(self, device: CallDevice) -> str:
        return device.masked
