"""Admin actions on phones. Each one asks for confirmation and is written to the admin log."""

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

MAX_PHONES = 200
"""Maximum number of phones per action: the confirmation page lists each of them."""

NOTE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class PhoneAction:
    """An action on a phone.

    Attributes:
        permission: permission that the action requires.
        label: name of the action and of its button.
        question: text of the confirmation page.
        done: text of the log entry.
        perform: function that takes phone, request and note; returns False if nothing changed.
        fits: function that takes a phone and returns True if its page offers the action.
        takes_note: True to ask for a reason, which is stored with the rule.
        erases: True if the action deletes the row.
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


BLOCK = PhoneAction(
    "block_phone",
    _("Block"),
    _("No calls will be placed to this number until you unblock it."),
    _("Blocked"),
    lambda phone, request, note: blocking.block(phone, by=_account(request), note=note),
    lambda phone: not phone.blocked,
    takes_note=True,
)
UNBLOCK = PhoneAction(
    "block_phone",
    _("Unblock"),
    _("This deletes the rule for this number. Rules for ranges and countries stay."),
    _("Unblocked"),
    lambda phone, request, note: blocking.unblock(phone),
    lambda phone: bool(phone.blocked),
)
LET_TRY_AGAIN = PhoneAction(
    "block_phone",
    _("Unlock"),
    _(
        "This resets the count of wrong codes and unlocks the number. "
        "Make sure that the request comes from the owner of the number."
    ),
    _("Unlocked"),
    lambda phone, request, note: blocking.let_try_again(phone),
    lambda phone: any(
        (phone.failures, phone.waits_until, phone.known_failures, phone.known_waits_until)
    ),
)
FORGET = PhoneAction(
    "forget_phone",
    _("Erase data"),
    _(
        "This erases the number and all its verifications, calls, reports, attempts and "
        "addresses. You cannot undo this."
    ),
    _("Data erased"),
    _forget,
    lambda phone: True,
    erases=True,
)
PHONE_ACTIONS = {
    "block": BLOCK,
    "unblock": UNBLOCK,
    "let_try_again": LET_TRY_AGAIN,
    "forget": FORGET,
}


def run_action(
    admin: HistoryAdmin, request: HttpRequest, queryset: Any, name: str
) -> HttpResponse | None:
    """Show the confirmation page of an action, or perform the action once it is confirmed.

    Returns:
        the confirmation page or a redirect; None to return to the list.
    """
    action = PHONE_ACTIONS[name]
    phones = list(queryset[: MAX_PHONES + 1])
    if len(phones) > MAX_PHONES:
        text = ngettext("Select at most %d phone.", "Select at most %d phones.", MAX_PHONES)
        admin.message_user(request, text % MAX_PHONES, messages.ERROR)
        return None
    if request.POST.get("confirmed") != "yes":
        return _confirmation_page(admin, request, name, phones)
    note = request.POST.get("note", "").replace("\0", "").strip()[:NOTE_LENGTH]
    done = [phone for phone in phones if _perform(action, phone, request, note)]
    text = ngettext("%(action)s: %(count)d phone.", "%(action)s: %(count)d phones.", len(done)) % {
        "action": action.done,
        "count": len(done),
    }
    admin.message_user(request, text, messages.SUCCESS if done else messages.WARNING)
    if len(phones) == 1 and not action.erases:
        name = "admin:django_flashcall_phone_change"
        page = reverse(name, args=(phones[0].pk,), current_app=admin.admin_site.name)
        return HttpResponseRedirect(page)
    return None


def _perform(action: PhoneAction, phone: Phone, request: HttpRequest, note: str) -> bool:
    # Erasing removes the number and the key, which the log entry needs.
    row = Phone(pk=phone.pk, number=phone.number)
    with transaction.atomic(using=router.db_for_write(Phone)):
        if not action.perform(phone, request, note):
            return False
        text = f"{action.done}: {note}" if note and action.takes_note else str(action.done)
        log(request, row, DELETION if action.erases else CHANGE, text, row.masked)
    return True


def _confirmation_page(
    admin: HistoryAdmin, request: HttpRequest, name: str, phones: list[Phone]
) -> HttpResponse:
    action = PHONE_ACTIONS[name]
    return TemplateResponse(
        request,
        "admin/django_flashcall/confirm.html",
        {
            **admin.admin_site.each_context(request),
            "title": action.label,
            "opts": admin.opts,
            "media": admin.media,
            "phone_action": action,
            "name": name,
            "phones": [(phone.pk, shown_number(request, phone)) for phone in phones],
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "note_length": NOTE_LENGTH,
        },
    )


def _account(request: HttpRequest) -> Any:
    return request.user
