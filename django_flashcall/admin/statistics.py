"""The statistics page: charts, each drawn from a table below it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from ..delivery import reasons
from ..insight import operators, statistics
from ..models import Call
from .base import HistoryAdmin
from .display import TONES

PERIODS = {
    "day": gettext_lazy("24 hours"),
    "week": gettext_lazy("7 days"),
    "month": gettext_lazy("30 days"),
}

SCRIPTS = (
    "django_flashcall/vendor/chart.js/chart.umd.min.js",
    "django_flashcall/statistics.js",
)

GROUPS_SHOWN = 12
"""Maximum number of operators or countries in a chart; the rest are added up in one row."""

# Order in which bars are stacked: from best to worst.
STATUSES = (
    Call.Status.DELIVERED,
    Call.Status.SENT,
    Call.Status.QUEUED,
    Call.Status.UNKNOWN,
    Call.Status.UNDELIVERED,
    Call.Status.REJECTED,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: the number to draw (None for no data) and the text to show."""

    value: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its table.

    Attributes:
        kind: ``stacked`` (bars over time), ``line``, or ``bars`` (horizontal, stacked).
        first: heading of the first column.
        columns: tone and heading of each series.
        rows: name and cells of each row.
        unit: unit after the numbers on the axis.
    """

    kind: str
    title: str
    first: str
    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]
    unit: str = ""


def page(admin: HistoryAdmin, request: HttpRequest) -> HttpResponse:
    """Show the statistics of the requested period."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    period = request.GET.get("period", "week")
    if period not in PERIODS:
        period = "week"
    Call.settle_lost()
    figures = statistics.figures(period)
    return TemplateResponse(
        request,
        "admin/django_flashcall/statistics.html",
        {
            **admin.admin_site.each_context(request),
            "title": _("Call statistics"),
            "opts": admin.opts,
            "media": admin.media + forms.Media(js=SCRIPTS),
            "period": period,
            "periods": PERIODS.items(),
            "tiles": _tiles(figures),
            "charts": _charts(figures),
        },
    )


def _tiles(figures: statistics.Figures) -> list[tuple[str, str]]:
    """Return the key figures above the charts: name and value."""
    total = figures.total
    failed = total.calls[Call.Status.REJECTED] + total.calls[Call.Status.UNDELIVERED]
    tiles = [
        (_("Calls"), formats.number_format(total.calls.total(), 0, force_grouping=True)),
        (_("Conversion rate"), _percent(total.share_verified).text),
        (_("Failed calls"), _percent(_part(failed, total.calls.total())).text),
        (_("Median response time"), _milliseconds(total.p50).text),
        (_("95th percentile response time"), _milliseconds(total.p95).text),
    ]
    if figures.priced:
        tiles.append((_("Cost, in the provider's currency"), _cost(total.cost).text))
    return tiles


def _charts(figures: statistics.Figures) -> list[Chart]:
    hourly = figures.period == "day"
    when = _("Hour") if hourly else _("Day")
    names = [_moment(bucket.start, hourly=hourly) for bucket in figures.buckets]

    def over_time(kind: str, title: str, columns: Any, cells: Any, unit: str = "") -> Chart:
        rows = [(name, cells(b)) for name, b in zip(names, figures.buckets, strict=True)]
        return Chart(kind, title, when, columns, rows, unit)

    charts = [
        over_time(
            "stacked",
            _("Calls by outcome"),
            [(TONES[status], str(status.label)) for status in STATUSES],
            lambda bucket: [_count(bucket.calls[status]) for status in STATUSES],
        ),
        over_time(
            "line",
            _("Conversion rate"),
            [("good", pgettext("verification", "verified"))],
            lambda bucket: [_percent(bucket.share_verified)],
            "%",
        ),
        over_time(
            "line",
            _("Provider response time"),
            [("under-way", _("median")), ("doubt", _("95th percentile"))],
            lambda bucket: [_milliseconds(bucket.p50), _milliseconds(bucket.p95)],
            _("ms"),
        ),
    ]
    if figures.priced:
        charts.append(
            over_time(
                "stacked",
                _("Cost, from prices in delivery reports"),
                [("under-way", _("cost"))],
                lambda bucket: [_cost(bucket.cost)],
            )
        )
    charts += [
        Chart(
            "bars",
            _("Failure reasons"),
            _("Reason"),
            [("bad", _("calls"))],
            [(reasons.label(code), [_count(calls)]) for code, calls in figures.reasons],
        ),
        _grouped(_("By operator"), _("Operator"), figures.networks, operators.name),
        _grouped(_("By country"), _("Country"), figures.countries, str),
    ]
    return charts


def _grouped(title: str, first: str, groups: list[statistics.Group], name: Any) -> Chart:
    """Return a chart by operator or country, with the smallest ones added up."""
    columns = [
        ("good", _("delivered")),
        ("quiet", _("no report")),
        ("bad", _("not delivered")),
        ("refused", _("rejected")),
    ]
    parts = [(name(group.name), [group]) for group in groups[:GROUPS_SHOWN]]
    if rest := groups[GROUPS_SHOWN:]:
        parts.append((_("others"), rest))
    rows = [(label, _outcomes(part)) for label, part in parts]
    if any(group.cost for group in groups):
        columns.append(("none", _("cost")))
        for (_label, cells), (_label, part) in zip(rows, parts, strict=True):
            cells.append(_cost(sum((group.cost for group in part), Decimal(0))))
    return Chart("bars", title, first, columns, rows)


def _outcomes(groups: Iterable[statistics.Group]) -> list[Cell]:
    delivered, undelivered, rejected, calls = (
        sum(values)
        for values in zip(
            *((g.delivered, g.undelivered, g.rejected, g.calls) for g in groups), strict=True
        )
    )
    unreported = calls - delivered - undelivered - rejected
    return [_count(number) for number in (delivered, unreported, undelivered, rejected)]


def _moment(start: datetime, *, hourly: bool) -> str:
    if hourly:
        return f"{start:%H:%M}"
    return formats.date_format(start, pgettext("date format", "j M"))


def _count(number: int) -> Cell:
    return Cell(number, formats.number_format(number, 0, force_grouping=True))


def _part(some: int, all: int) -> float | None:
    return some / all if all else None


def _percent(part: float | None) -> Cell:
    if part is None:
        return Cell(None, "–")
    return Cell(round(part * 100, 1), f"{formats.number_format(part * 100, 1)} %")


def _milliseconds(value: float | None) -> Cell:
    """Show two significant digits: the figures are exact to one percent."""
    if value is None:
        return Cell(None, "–")
    rounded = float(f"{value:.2g}")
    if rounded < 1000:
        return Cell(rounded, _("%s ms") % formats.number_format(rounded, 0))
    return Cell(rounded, _("%s s") % formats.number_format(rounded / 1000, 1))


def _cost(value: Decimal) -> Cell:
    return Cell(float(value), formats.number_format(value, 2, force_grouping=True))
