"""Base classes and helpers of the admin: read-only history, masked numbers, fast lists."""

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
from django.http import HttpRequest, HttpResponse
from django.utils import formats, timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ..models import Phone

if TYPE_CHECKING:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin[Any]
    Rows = QuerySet[Any]
    Pages = Paginator[Any]
else:
    ModelAdmin, Rows, Pages = admin.ModelAdmin, QuerySet, Paginator

MAX_ROWS = 10_000
"""Maximum number of rows that a list counts and pages through."""

PHONE_LIKE = re.compile(r"\d(?:[\W_]*\d){6,}")
"""Text that may be a phone number: seven or more digits, with punctuation of any kind."""


def may(request: HttpRequest, permission: str) -> bool:
    """Return True if the user has a permission of this app, such as ``view_number``."""
    return request.user.has_perm(f"django_flashcall.{permission}")


def shown_number(request: HttpRequest, phone: Phone) -> str:
    """Return the full number if the user may see it, else the masked number."""
    return phone.number if may(request, "view_number") else phone.masked


def mask_numbers(text: str) -> str:
    """Replace anything that looks like a phone number in a text with asterisks.

    For what providers say, and the names of accounts: a number can be the username.
    """
    return PHONE_LIKE.sub(lambda found: "*" * len(found[0]), text)


def badge(tone: str, label: Any) -> str:
    """Return a coloured label. The colour only repeats what the text says."""
    return format_html('<span class="flashcall-badge flashcall-{}">{}</span>', tone, label)


def two_lines(first: str, second: str) -> str:
    """Return a main line and, if it is not empty, a second line in grey."""
    return format_html('{}<div class="quiet">{}</div>', first, second) if second else first


def format_datetime(value: datetime | None) -> str:
    """Return a date and time to the second in the user's language, or a dash for None."""
    if value is None:
        return "–"
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return f"{formats.date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"


def format_duration(value: timedelta | None) -> str:
    """Return a duration in milliseconds if below one second, else in seconds; a dash for None."""
    if value is None:
        return "–"
    milliseconds = round(value.total_seconds() * 1000)
    if milliseconds < 1000:
        return ngettext("%d ms", "%d ms", milliseconds) % milliseconds
    return gettext("%s s") % formats.number_format(milliseconds / 1000, 1)


def log(request: HttpRequest, row: Model | type[Model], flag: int, message: str, name: str) -> None:
    """Add an entry to Django's admin log.

    Args:
        request: request of the user who acted.
        row: the affected row, or a model if many rows are affected.
        flag: ``ADDITION``, ``CHANGE`` or ``DELETION``.
        message: what was done, without a full phone number.
        name: name of the row in the log, masked.
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
    """Paginator that stops counting at `MAX_ROWS`, because counting a large table is slow."""

    is_capped = False

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found = int(rows[: MAX_ROWS + 1].count())
        self.is_capped = found > MAX_ROWS
        return min(found, MAX_ROWS)


class DateHierarchyQuerySet(Rows):
    """QuerySet that builds the date hierarchy from the first and the last row.

    Django selects the distinct dates of all rows, which reads the whole table. This takes two
    index lookups; in return, some of the listed dates may have no rows.
    """

    def datetimes(  # type: ignore[override]
        self, field_name: str, kind: str, order: str = "ASC", tzinfo: Any = None
    ) -> list[datetime]:
        """Return all years, months or days between the first and the last row."""
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
            # Step past the end of the period, then go back to the start of the next one.
            step = {"day": 1, "month": 31, "year": 366}[kind]
            at += timedelta(days=step)
            if kind != "day":
                at = at.replace(day=1)
            if kind == "year":
                at = at.replace(month=1)
        return found


class StrictSortChangeList(ChangeList):
    """Change list that ignores sorting by columns that are not in `sortable_by`.

    Django only hides the links. Sorting by another column through the URL would read the whole
    table, and could reveal the order of masked numbers.
    """

    def get_ordering_field(self, field_name: Any) -> Any:
        if field_name not in (self.sortable_by or ()):
            return None
        return super().get_ordering_field(field_name)


class HistoryAdmin(ModelAdmin):
    """Base of the read-only admins: rows cannot be added, changed or deleted by hand."""

    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    list_per_page = 50
    empty_value_display = "–"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # counts the table once per choice
    paginator = CappedPaginator
    sortable_by: ClassVar[tuple[str, ...]] = ("created_at", "when")
    linked: ClassVar[frozenset[str]] = frozenset()
    """Extra lookups that links from other pages use, in addition to the filters."""

    class Media:
        css: ClassVar = {"all": ("django_flashcall/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return StrictSortChangeList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # Django's title, "Select … to view", does not decline the name in Russian.
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow only the lookups of the filters, so that no column can be guessed bit by bit."""
        parameters = {getattr(entry, "parameter_name", None) for entry in self.list_filter}
        if lookup in self.linked or lookup in parameters:
            return True
        fields = {entry[0] if isinstance(entry, tuple) else entry for entry in self.list_filter}
        fields.add(self.date_hierarchy)
        return lookup.split("__")[0] in fields and super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return DateHierarchyQuerySet(self.model, query=rows.query, using=rows.db)

    heading: ClassVar[Any] = None
    """Title of the page of one row, with ``%(number)s``; None for Django's title."""

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if self.heading and (row := kwargs.get("obj")) is not None:
            number = shown_number(request, self.phone_of(row))
            context["title"] = self.heading % {"number": number}
            context["subtitle"] = None
        return super().render_change_form(request, context, *args, **kwargs)

    disclosed: ClassVar[dict[str, str]] = {"masked": "number"}
    """Columns and fields, and what replaces them for users who may see full numbers."""

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
            # A form row can hold several fields.
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
        return format_datetime(row.created_at)
