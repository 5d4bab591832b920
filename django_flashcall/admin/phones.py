"""The admin of phones, with actions to block, unblock, unlock and erase them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from ..models import Call, Phone
from ..protection import blocking
from . import search
from .actions import BLOCK, FORGET, LET_TRY_AGAIN, PHONE_ACTIONS, UNBLOCK, run_action
from .base import HistoryAdmin, badge, format_datetime, mask_numbers, may, two_lines
from .filters import DateFilter, PhoneFilter


@admin.register(Phone)
class PhoneAdmin(HistoryAdmin):
    change_form_template = "admin/django_flashcall/buttons.html"
    list_display = (
        "masked",
        "state",
        "masked_owner",
        "verified",
        "calls",
        "wrong_codes",
        "first_seen",
    )
    heading = "%(number)s"
    disclosed: ClassVar = {
        **HistoryAdmin.disclosed,
        "masked_owner": "owner_name",
        "masked_former_owner": "former_owner",
    }
    list_filter = (PhoneFilter, ("created_at", DateFilter))
    list_select_related = ("owner",)
    sortable_by = ("first_seen",)
    search_fields = ("number",)  # see `get_search_results`
    search_help_text = _("A phone number in any format, or the owner's username.")
    fields = (
        ("masked", "state"),
        ("masked_owner", "masked_former_owner"),
        "verified",
        ("wrong_codes", "waits"),
        ("calls", "verifications"),
        ("last_called", "first_seen"),
    )
    actions = ("block", "unblock", "let_try_again", "forget")

    def get_queryset(self, request: HttpRequest) -> Any:
        calls = Call.objects.filter(phone=OuterRef("pk")).order_by().values("phone")
        counted = Subquery(calls.annotate(n=Count("pk")).values("n"), output_field=IntegerField())
        rows = blocking.with_blocked(super().get_queryset(request))
        return rows.select_related("owner").annotate(call_count=Coalesce(counted, 0))

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        term = search_term.strip()
        return (search.by_phone(request, queryset, term) if term else queryset), False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        phone = kwargs.get("obj")
        context["object_buttons"] = [
            (name, action.label)
            for name, action in PHONE_ACTIONS.items()
            if phone is not None and may(request, action.permission) and action.fits(phone)
        ]
        return super().render_change_form(request, context, *args, **kwargs)

    # Actions of the list. The buttons on a phone's page post to them too.

    def has_block_phone_permission(self, request: HttpRequest) -> bool:
        return may(request, "block_phone") and self.has_view_permission(request)

    def has_forget_phone_permission(self, request: HttpRequest) -> bool:
        return may(request, "forget_phone") and self.has_view_permission(request)

    @admin.action(description=BLOCK.label, permissions=["block_phone"])
    def block(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return run_action(self, request, queryset, "block")

    @admin.action(description=UNBLOCK.label, permissions=["block_phone"])
    def unblock(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return run_action(self, request, queryset, "unblock")

    @admin.action(description=LET_TRY_AGAIN.label, permissions=["block_phone"])
    def let_try_again(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return run_action(self, request, queryset, "let_try_again")

    @admin.action(description=FORGET.label, permissions=["forget_phone"])
    def forget(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return run_action(self, request, queryset, "forget")

    def phone_of(self, row: Phone) -> Phone:
        return row

    @admin.display(description=_("state"))
    def state(self, phone: Phone) -> str:
        if phone.blocked:  # type: ignore[attr-defined]
            return badge("refused", _("blocked"))
        if (until := _locked_until(phone)) and until > timezone.now():
            text = _("until %s") % format_datetime(until)
            return two_lines(badge("doubt", _("locked")), text)
        if phone.owner_id:
            return badge("good", _("has owner"))
        if phone.verified_at:
            return badge("under-way", pgettext_lazy("phone", "verified"))
        return badge("quiet", _("new"))

    @admin.display(description=_("owner"))
    def masked_owner(self, phone: Phone) -> str:
        return mask_numbers(self.owner_name(phone))

    @admin.display(description=_("owner"))
    def owner_name(self, phone: Phone) -> str:
        return str(phone.owner) if phone.owner else "–"

    @admin.display(description=_("moved from"))
    def masked_former_owner(self, phone: Phone) -> str:
        return _moved_from(phone, masks=True)

    @admin.display(description=_("moved from"))
    def former_owner(self, phone: Phone) -> str:
        return _moved_from(phone, masks=False)

    @admin.display(description=pgettext_lazy("phone", "verified"))
    def verified(self, phone: Phone) -> str:
        return format_datetime(phone.verified_at)

    @admin.display(description=_("wrong codes"))
    def wrong_codes(self, phone: Phone) -> int:
        return phone.failures + phone.known_failures

    @admin.display(description=_("locked until"))
    def waits(self, phone: Phone) -> str:
        return format_datetime(_locked_until(phone))

    @admin.display(description=_("last called"))
    def last_called(self, phone: Phone) -> str:
        return format_datetime(phone.last_called_at)

    @admin.display(description=_("first seen"), ordering="-created_at")
    def first_seen(self, phone: Phone) -> str:
        return format_datetime(phone.created_at)

    @admin.display(description=_("calls"))
    def calls(self, phone: Phone) -> str:
        return self._link("call", phone, phone.call_count)  # type: ignore[attr-defined]

    @admin.display(description=_("verifications"))
    def verifications(self, phone: Phone) -> str:
        return self._link("verification", phone, _("Show"))

    def _link(self, model: str, phone: Phone, text: Any) -> str:
        """Return a link to the rows of a phone in another list."""
        name = f"admin:django_flashcall_{model}_changelist"
        url = reverse(name, current_app=self.admin_site.name)
        return format_html('<a href="{}?phone={}">{}</a>', url, phone.pk, text)


def _locked_until(phone: Phone) -> datetime | None:
    """Return when the lock of strangers, or that of the owner and known devices, ends."""
    return max(filter(None, (phone.waits_until, phone.known_waits_until)), default=None)


def _moved_from(phone: Phone, *, masks: bool) -> str:
    """Show the account that had the number before it was moved, and when; as long as stored."""
    moved = phone.verifications.exclude(former_owner=None).select_related("former_owner")
    latest = moved.order_by("-redeemed_at").first()
    if latest is None:
        return "–"
    name = str(latest.former_owner)
    return two_lines(mask_numbers(name) if masks else name, format_datetime(latest.redeemed_at))
