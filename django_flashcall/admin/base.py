"""What all pages of the admin share: history is read-only, numbers are masked, lists are quick."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.contenttypes.models import ContentType
from django.core.paginator import Paginator
from django.db.models import Max, Min, Model, QuerySet
from django.http import HttpRequest
from django.utils import formats, timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..models import Phone

if TYPE_CHECKING:  # generic for the type checker alone
    ModelAdmin = admin.ModelAdmin[Any]
    Rows = QuerySet[Any]
    Pages = Paginator[Any]
else:
    ModelAdmin, Rows, Pages = admin.ModelAdmin, QuerySet, Paginator

COUNTED = 10_000
"""Rows that a list counts and pages through; filters, dates and search lead to the others."""

DIGITS = re.compile(r"\d(?:[\s().-]*\d){6,}")
"""What may be a phone number in somebody's words: seven digits or more."""


def may(request: HttpRequest, permission: str) -> bool:
    """Tell whether the visitor has a permission of this app, such as ``view_number``."""
    return request.user.has_perm(f"django_flashcall.{permission}")


def shown_number(request: HttpRequest, phone: Phone) -> str:
    """Return a number as the visitor may see it."""
    return phone.number if may(request, "view_number") else phone.masked


def conceal(text: str) -> str:
    """Hide what may be phone numbers in somebody's words, a provider's for example."""
    return DIGITS.sub(lambda found: "*" * len(found[0]), text)


def badge(tone: str, word: Any) -> str:
    """A word with a colour of its own; the word alone says everything."""
    return format_html('<span class="flashcall-badge flashcall-{}">{}</span>', tone, word)


def two_lines(first: str, second: str) -> str:
    """What matters, and below it, if anything, what explains it."""
    return format_html('{}<div class="quiet">{}</div>', first, second) if second else first


def moment(value: datetime | None) -> str:
    """A time to the second, in the visitor's language; a dash for none."""
    if value is None:
        return "–"
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return f"{formats.date_format(local, 'DATE_FORMAT')} {local:%H:%M:%S}"


def duration(value: timedelta | None) -> str:
    """Milliseconds below a second, else seconds; a dash for none."""
    if value is None:
        return "–"
    milliseconds = round(value.total_seconds() * 1000)
    if milliseconds < 1000:
        return ngettext("%d ms", "%d ms", milliseconds) % milliseconds
    return gettext("%s s") % formats.number_format(milliseconds / 1000, 1)


def log(request: HttpRequest, row: Model | type[Model], flag: int, message: str, name: str) -> None:
    """Write what was done into Django's admin log.

    Args:
        request: whose deed it is.
        row: what it was done to; a model where it was done to many.
        flag: ``ADDITION``, ``CHANGE`` or ``DELETION``.
        message: what was done, without a whole number in it.
        name: how the log calls the row; masked.
    """
    user: Any = request.user
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(row.pk) if isinstance(row, Model) else None,
        object_repr=name[:200],
        action_flag=flag,
        change_message=message,
    )


class CappedPaginator(Pages):
    """Counts no further than `COUNTED`: counting a million rows takes longer than showing fifty."""

    is_capped = False

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found = int(rows[: COUNTED + 1].count())
        self.is_capped = found > COUNTED
        return min(found, COUNTED)


class Periods(Rows):
    """Rows whose date hierarchy is read off the first and the last of them.

    Django's own asks for the distinct days of every row, which reads the whole table; here two
    probes of an index do, and a day within may be empty.
    """

    def datetimes(  # type: ignore[override]
        self, field_name: str, kind: str, order: str = "ASC", tzinfo: Any = None
    ) -> list[datetime]:
        """Return the years, months or days from the first row to the last."""
        ends = self.order_by().aggregate(first=Min(field_name), last=Max(field_name))
        if ends["first"] is None:
            return []
        first, last = (
            timezone.localtime(end) if timezone.is_aware(end) else end for end in ends.values()
        )
        found = []
        at = first.replace(hour=0, minute=0, second=0, microsecond=0)
        at = {"day": at, "month": at.replace(day=1), "year": at.replace(month=1, day=1)}[kind]
        while at <= last:
            found.append(at)
            # Past the end of any period of this kind, and back to the beginning of the next.
            step = {"day": 1, "month": 31, "year": 366}[kind]
            at += timedelta(days=step)
            if kind != "day":
                at = at.replace(day=1)
            if kind == "year":
                at = at.replace(month=1)
        return found


class SortedList(ChangeList):
    """A list that addresses cannot sort otherwise than its headings do.

    Django's `sortable_by` hides the links alone. Sorting by any other column would read the whole
    table, and could put masked numbers in order.
    """

    def get_ordering_field(self, field_name: Any) -> Any:
        if field_name not in (self.sortable_by or ()):
            return None
        return super().get_ordering_field(field_name)


class HistoryAdmin(ModelAdmin):
    """Rows that are history: looked at, never added, changed or deleted by hand."""

    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # it would count the table once for each choice
    paginator = CappedPaginator
    sortable_by: ClassVar[tuple[str, ...]] = ("created_at", "when")
    linked: ClassVar[frozenset[str]] = frozenset()
    """Lookups, beside those of the filters, that links from other pages use."""

    class Media:
        css: ClassVar = {"all": ("django_flashcall/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SortedList

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow the filters on the page and nothing else: no column is guessed bit by bit."""
        parameters = {getattr(entry, "parameter_name", None) for entry in self.list_filter}
        if lookup in self.linked or lookup in parameters:
            return True
        fields = {entry[0] if isinstance(entry, tuple) else entry for entry in self.list_filter}
        fields.add(self.date_hierarchy)
        return lookup.split("__")[0] in fields and super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return Periods(self.model, query=rows.query, using=rows.db)

    disclosed: ClassVar[dict[str, str]] = {"masked": "number"}
    """What is shown in place of a column or field to those who may see whole numbers."""

    def get_list_display(self, request: HttpRequest) -> Any:
        return self._disclose(request, self.list_display)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [
            (title, {**options, "fields": self._disclose(request, options["fields"])})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self._disclose(request, self.fields or ())

    def _disclose(self, request: HttpRequest, names: Iterable[Any]) -> list[Any]:
        if not may(request, "view_number"):
            return list(names)
        return [
            # A line of a form may be made of several fields.
            self._disclose(request, name)
            if isinstance(name, (list, tuple))
            else self.disclosed.get(name, name)
            for name in names
        ]

    def phone_of(self, row: Any) -> Phone:
        phone: Phone = row.phone
        return phone

    @admin.display(description=_("number"))
    def masked(self, row: Any) -> str:
        return self.phone_of(row).masked

    @admin.display(description=_("number"))
    def number(self, row: Any) -> str:
        return self.phone_of(row).number

    @admin.display(description=_("when"), ordering="-created_at")
    def when(self, row: Any) -> str:
        return moment(row.created_at)
