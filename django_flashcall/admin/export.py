"""The filtered list of calls as CSV, streamed row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..delivery import reasons
from ..insight import operators
from ..models import Call
from .base import HistoryAdmin, conceal, log, may

ROWS_AT_ONCE = 2_000

COLUMNS = (
    "asked_at",
    "answered_ms",
    "number",
    "verification",
    "reference",
    "channel",
    "backend",
    "status",
    "reason",
    "reason_words",
    "mcc_mnc",
    "operator",
    "price",
    "provider_id",
    "provider_error",
    "provider_words",
    "test_number",
)

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection)."""


class _Line:
    """What `csv.writer` writes to: it hands each line back."""

    def write(self, line: str) -> str:
        return line


def export(admin: HistoryAdmin, request: HttpRequest) -> HttpResponseBase:
    """Answer with the calls that the list would show with the same filters, all pages of it."""
    if not (may(request, "export_call") and admin.has_view_permission(request)):
        raise PermissionDenied
    try:
        calls = admin.get_changelist_instance(request).queryset
    except IncorrectLookupParameters:
        messages.error(request, _("These filters are not valid."))
        name = "admin:django_flashcall_call_changelist"
        return HttpResponseRedirect(reverse(name, current_app=admin.admin_site.name))
    whole = may(request, "view_number")
    filters = ", ".join(sorted(key for key, value in request.GET.items() if value))
    log(
        request,
        Call,
        CHANGE,
        _("Exported, %(numbers)s; filters: %(filters)s")
        % {
            "numbers": _("whole numbers") if whole else _("masked numbers"),
            "filters": filters or "–",
        },
        _("Calls as CSV"),
    )
    rows = calls.select_related("phone").iterator(chunk_size=ROWS_AT_ONCE)
    response = StreamingHttpResponse(
        _lines(rows, whole=whole), content_type="text/csv; charset=utf-8"
    )
    name = f"calls-{timezone.localtime():%Y-%m-%d}.csv" if timezone.now().tzinfo else "calls.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def _lines(calls: Iterable[Call], *, whole: bool) -> Iterator[str]:
    # All cells in quotes, so that no other separator of somebody's locale makes two of one.
    writer = csv.writer(_Line(), quoting=csv.QUOTE_ALL)
    # Spreadsheets read UTF-8 only with its mark in front.
    yield "\ufeff" + writer.writerow(COLUMNS)
    for call in calls:
        yield writer.writerow(map(_cell, _values(call, whole=whole)))


def _values(call: Call, *, whole: bool) -> tuple[Any, ...]:
    return (
        call.created_at.isoformat(),
        round(call.took.total_seconds() * 1000) if call.took else "",
        call.phone.number if whole else call.phone.masked,
        call.verification_id,
        call.reference,
        call.channel,
        call.backend,
        call.status,
        call.error_code,
        reasons.label(call.error_code),
        call.mcc_mnc,
        operators.name(call.mcc_mnc),
        "" if call.price is None else call.price,
        call.provider_id,
        "" if call.provider_code is None else call.provider_code,
        call.provider_message if whole else conceal(call.provider_message),
        "yes" if call.is_test else "",
    )


def _cell(value: Any) -> str:
    """Make a value one that a spreadsheet shows as it is: a quote in front of what may compute."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
