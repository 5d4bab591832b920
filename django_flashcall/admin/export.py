"""Export the filtered list of calls as CSV, streamed row by row."""

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
from .base import HistoryAdmin, log, mask_numbers, may

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
    "not_placed",
)

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that start a formula in a spreadsheet (OWASP, CSV Injection)."""


class _Echo:
    """File for `csv.writer` that returns each line instead of storing it."""

    def write(self, line: str) -> str:
        return line


def export(admin: HistoryAdmin, request: HttpRequest) -> HttpResponseBase:
    """Return a CSV response with all calls that match the filters of the list."""
    if not (may(request, "export_call") and admin.has_view_permission(request)):
        raise PermissionDenied
    Call.settle_lost()
    try:
        calls = admin.get_changelist_instance(request).queryset
    except IncorrectLookupParameters:
        messages.error(request, _("These filters are not valid."))
        name = "admin:django_flashcall_call_changelist"
        return HttpResponseRedirect(reverse(name, current_app=admin.admin_site.name))
    full = may(request, "view_number")
    filters = ", ".join(sorted(key for key, value in request.GET.items() if value))
    log(
        request,
        Call,
        CHANGE,
        _("Exported with %(numbers)s; filters: %(filters)s")
        % {
            "numbers": _("full numbers") if full else _("masked numbers"),
            "filters": filters or "–",
        },
        _("Calls as CSV"),
    )
    rows = calls.select_related("phone").iterator(chunk_size=ROWS_AT_ONCE)
    response = StreamingHttpResponse(
        _lines(rows, full=full), content_type="text/csv; charset=utf-8"
    )
    name = f"calls-{timezone.localtime():%Y-%m-%d}.csv" if timezone.now().tzinfo else "calls.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def _lines(calls: Iterable[Call], *, full: bool) -> Iterator[str]:
    # Quote all cells: spreadsheets of some locales split at other separators.
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    # Spreadsheets detect UTF-8 only by its byte order mark.
    yield "\ufeff" + writer.writerow(COLUMNS)
    for call in calls:
        yield writer.writerow(map(_cell, _values(call, full=full)))


def _values(call: Call, *, full: bool) -> tuple[Any, ...]:
    return (
        call.created_at.isoformat(),
        round(call.duration.total_seconds() * 1000) if call.duration else "",
        call.phone.number if full else call.phone.masked,
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
        call.provider_message if full else mask_numbers(call.provider_message),
        "yes" if call.is_test else "",
    )


def _cell(value: Any) -> str:
    """Return a cell as text, with a quote before anything that a spreadsheet could compute."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
