"""What can be done to phones: each deed asks first, and is written into the admin log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, DELETION
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..models import Phone
from ..privacy import retention
from ..protection import blocking
from .base import HistoryAdmin, log, shown_number

MOST = 200
"""Phones that one deed is done to at most: they are shown and confirmed one by one."""

NOTE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that an operator does to a phone.

    Attributes:
        permission: who may.
        label: the action's and the button's name.
        question: what the page of confirmation explains.
        done: what the log says of it.
        perform: does it; False where there was nothing to do. Takes phone, request and note.
        fits: whether there is anything to do, judged by the row of the list.
        takes_note: asks for a reason, kept with the rule.
        erases: the row is gone afterwards.
    """

    permission: str
    label: Any
    question: str | Promise
    done: str | Promise
    perform: Callable[[Phone, HttpRequest, str], bool]
    fits: Callable[[Any], bool]
    takes_note: bool = False
    erases: bool = False


def _forget(phone: Phone, request: HttpRequest, note: str) -> bool:
    retention.forget(phone)
    return True


BLOCK = Deed(
    "block_phone",
    _("Block"),
    _("No calls will be placed to this number until you unblock it."),
    _("Blocked"),
    lambda phone, request, note: blocking.block(phone, by=_account(request), note=note),
    lambda phone: not phone.blocked,
    takes_note=True,
)
UNBLOCK = Deed(
    "block_phone",
    _("Unblock"),
    _("This deletes the rule for this number. Rules for ranges and countries stay."),
    _("Unblocked"),
    lambda phone, request, note: blocking.unblock(phone),
    lambda phone: bool(phone.blocked),
)
LET_TRY_AGAIN = Deed(
    "block_phone",
    _("End the wait"),
    _(
        "This clears the wrong codes and ends the wait. "
        "Make sure that the owner of the number is asking."
    ),
    _("Wait ended"),
    lambda phone, request, note: blocking.let_try_again(phone),
    lambda phone: bool(phone.failures or phone.waits_until),
)
FORGET = Deed(
    "forget_phone",
    _("Forget"),
    _(
        "This erases the number and all its verifications, calls, reports, attempts and "
        "addresses. You cannot undo this."
    ),
    _("Forgotten"),
    _forget,
    lambda phone: True,
    erases=True,
)
DEEDS = {"block": BLOCK, "unblock": UNBLOCK, "let_try_again": LET_TRY_AGAIN, "forget": FORGET}


def carry_out(
    admin: HistoryAdmin, request: HttpRequest, chosen: Any, name: str
) -> HttpResponse | None:
    """Ask whether a deed shall be done to the chosen phones; when confirmed, do it.

    Returns:
        the page that asks, where to go next, or None for the list.
    """
    deed = DEEDS[name]
    phones = list(chosen[: MOST + 1])
    if len(phones) > MOST:
        words = ngettext("Choose %d phone at most.", "Choose %d phones at most.", MOST) % MOST
        admin.message_user(request, words, messages.ERROR)
        return None
    if request.POST.get("confirmed") != "yes":
        return _ask(admin, request, name, phones)
    note = request.POST.get("note", "").replace("\0", "").strip()[:NOTE_LENGTH]
    done = [phone for phone in phones if _do(deed, phone, request, note)]
    words = ngettext("%(deed)s: %(count)d phone.", "%(deed)s: %(count)d phones.", len(done)) % {
        "deed": deed.done,
        "count": len(done),
    }
    admin.message_user(request, words, messages.SUCCESS if done else messages.WARNING)
    if len(phones) == 1 and not deed.erases:
        name = "admin:django_flashcall_phone_change"
        page = reverse(name, args=(phones[0].pk,), current_app=admin.admin_site.name)
        return HttpResponseRedirect(page)
    return None


def _do(deed: Deed, phone: Phone, request: HttpRequest, note: str) -> bool:
    # The log needs what the row was called and its key, which erasing takes away.
    row = Phone(pk=phone.pk, number=phone.number)
    with transaction.atomic(using=router.db_for_write(Phone)):
        if not deed.perform(phone, request, note):
            return False
        words = f"{deed.done}: {note}" if note and deed.takes_note else str(deed.done)
        log(request, row, DELETION if deed.erases else CHANGE, words, row.masked)
    return True


def _ask(admin: HistoryAdmin, request: HttpRequest, name: str, phones: list[Phone]) -> HttpResponse:
    deed = DEEDS[name]
    return TemplateResponse(
        request,
        "admin/django_flashcall/confirm.html",
        {
            **admin.admin_site.each_context(request),
            "title": deed.label,
            "opts": admin.opts,
            "media": admin.media,
            "deed": deed,
            "name": name,
            "phones": [(phone.pk, shown_number(request, phone)) for phone in phones],
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "note_length": NOTE_LENGTH,
        },
    )


def _account(request: HttpRequest) -> Any:
    return request.user
