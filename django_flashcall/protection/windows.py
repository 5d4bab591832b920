"""Sliding windows over calls and wrong codes, as the limits count them.

No statement reads more rows than the limit allows: a window is full if its limit-th newest row
exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import QuerySet

from ..conf import Rate
from ..models import Attempt, Call, Refusal
from ..prepared.records import Unknown
from .visitors import Source

WIDE_FACTOR = 5
"""An IPv6 /48 has this many times the limit of an address."""


class Window(NamedTuple):
    """A sliding window over calls or wrong codes.

    Attributes:
        scope: the limit that it belongs to.
        limit: the number of rows that fill it.
        length: how far it reaches back.
        by: the columns in which its rows have the value of the request; with ``attempts``, its rows
            are wrong codes, not calls.
    """

    scope: Refusal.Scope
    limit: int
    length: timedelta
    by: tuple[str, ...]


def shape(window: Window) -> tuple[int, tuple[str, ...]]:
    """Return what the text of a query depends on: the limit and the columns of a window."""
    return window.limit, window.by


def share_of_address(rate: Rate) -> int:
    """Return how many calls to a number one address can request.

    Half, rounded up, so that one stranger cannot use up the limit of a number.
    """
    return math.ceil(rate.number / 2)


def addresses(source: Source) -> Iterator[tuple[int, str]]:
    """Yield the columns of the networks of a request, each after the factor of its limit."""
    if source.network:
        yield 1, "network"
    if source.wide_network:
        yield WIDE_FACTOR, "wide_network"


def values(windows: Iterable[Window], row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the values that the queries of windows need.

    Args:
        windows: the windows.
        row: the columns of the request.
        now: time of the request.
    """
    values = {name: row[name] for window in windows for name in window.by if name in row}
    return values | {f"since{n}": now - window.length for n, window in enumerate(windows)}


def last_row(
    place: int, window: tuple[int, tuple[str, ...]], values: Mapping[str, Any]
) -> QuerySet[Any]:
    """Return a queryset of the row that fills a window, if it is full."""
    limit, by = window
    rows = _rows(by, values[f"since{place}"], values)
    return rows.order_by("-created_at")[limit - 1 : limit]


def _rows(by: tuple[str, ...], since: Any, values: Mapping[str, Any]) -> QuerySet[Any]:
    """Return the rows in a window."""
    shared = {name: values[name] for name in by if name != "attempts"}
    if "phone" not in by:
        shared = {name: Unknown(value) for name, value in shared.items()}
    if "attempts" in by:
        return Attempt.objects.filter(created_at__gt=since, counts=True, **shared)
    calls = Call.objects.filter(created_at__gt=since, **shared)
    if "phone" not in by:
        calls = calls.filter(progress=Call.Progress.UNVERIFIED)
    # An address that causes many rejected calls must be stopped; the others do not count them.
    if "phone" in by or "prefix" in by:
        calls = calls.exclude(status=Call.Status.REJECTED)
    return calls
