"""``CALLS_TOTAL``: count the calls of the whole site in slices of time, and say what is spent.

Counting the rows of the calls would take longer the more calls a site places. A slice is a
twenty-fourth of the window; the oldest counts as a whole, so that the window is never too short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import router
from django.db.models import Max, QuerySet, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from ..conf import Rate, conf
from ..database_errors import transact
from ..models import CallCount
from ..prepared.records import Record, first_part
from ..prepared.writes import PreparedAdd, Write

SLICES = 24
"""Slices of a window."""

KEPT = 20
"""One in so many calls is kept for owners and known devices."""

PARTS = 8
"""Rows of a slice: so many calls are counted at the same time without waiting for each other."""


def spent_since(rate: Rate, now: datetime) -> datetime:
    """Return the time after which the counted slices begin."""
    return now - rate.window - rate.window / SLICES


def part(since: Any) -> QuerySet[Any, Any]:
    """Return a queryset of one row, with the number of calls counted.

    Args:
        since: the time after which the slices begin; see `spent_since`.
    """
    counts = CallCount.objects.filter(begins_at__gt=since).order_by().annotate(_one=Value(1))
    sums = counts.values("_one").annotate(_newest=Max("begins_at"))
    return first_part("spent", sums, "_newest", number=Coalesce(Sum("calls"), 0))


def read(records: Iterable[Record]) -> int:
    """Return the number of calls counted by the row of `part`; 0 if there is none."""
    return sum(record.number for record in records if record.of == "spent")


def limit(*, is_known: bool = False) -> float:
    """Return how many calls ``CALLS_TOTAL`` allows; infinity without that limit.

    Args:
        is_known: the caller is the owner or has verified the number before. A part is kept for
            them, so that strangers cannot use up everything.
    """
    rate = conf.CALLS_TOTAL
    if rate is None:
        return math.inf
    return rate.number if is_known else of_strangers(rate)


def of_strangers(rate: Rate) -> int:
    """Return how many calls of a rate strangers can use: the rest is for owners and devices."""
    return rate.number - rate.number // KEPT


def free_at(now: datetime, spent: int, *, is_known: bool = False) -> datetime | None:
    """Return when the next call fits into ``CALLS_TOTAL``; None if one fits now.

    Args:
        now: the time of the request.
        spent: the calls counted by then.
        is_known: see `limit`.
    """
    rate = conf.CALLS_TOTAL
    allowed = limit(is_known=is_known)
    if rate is None or spent < allowed:
        return None
    counts = CallCount.objects.filter(begins_at__gt=spent_since(rate, now)).values("begins_at")
    slices = counts.annotate(number=Sum("calls")).order_by("-begins_at")
    calls = 0
    for begins_at, number in slices.values_list("begins_at", "number"):
        calls += number
        if calls >= allowed:
            free: datetime = begins_at + rate.window + rate.window / SLICES
            return free
    return None  # a call was counted back in the meantime


def make_rows(at: datetime) -> None:
    """Make the rows of a slice, once for each process, before the transaction that counts in it.

    If several transactions made the same row, they could deadlock (InnoDB locks gaps).
    """
    global _made
    rate = conf.CALLS_TOTAL
    if rate is None or _made == (begins_at := _slice(rate, at)):
        return
    rows = [CallCount(begins_at=begins_at, part=part) for part in range(PARTS)]
    using = router.db_for_write(CallCount)
    counts = CallCount.objects.using(using)
    transact(lambda: counts.bulk_create(rows, ignore_conflicts=True), using)
    _made = begins_at


_made: datetime | None = None
"""The slice whose rows exist."""


def count(verification: UUID, at: datetime, *, calls: int = 1) -> None:
    """Count a call that is placed, or count it back.

    Make it the last write of the transaction that stores the call: others wait for the row.

    Args:
        verification: the id of its verification, which chooses the row.
        at: the time of the call.
        calls: 1, or -1 for a call that was not placed.
    """
    if write := count_write(verification, at, calls=calls):
        write.execute()


def count_write(verification: UUID, at: datetime, *, calls: int = 1) -> Write | None:
    """Return the statement of `count`; None without ``CALLS_TOTAL``."""
    rate = conf.CALLS_TOTAL
    if rate is None:
        return None
    part = verification.int % PARTS
    return _ADD.bind(CallCount(begins_at=_slice(rate, at), part=part, calls=calls))


_ADD = PreparedAdd(CallCount, keys=["begins_at", "part"], number="calls")


def _slice(rate: Rate, at: datetime) -> datetime:
    """Return the beginning of the slice that a time belongs to."""
    width = rate.window / SLICES
    epoch = datetime(1970, 1, 1, tzinfo=UTC if timezone.is_aware(at) else None)
    return at - (at - epoch) % width
