"""Statistics of the admin: the calls of a day, week or month, in six queries.

The database does all the counting. Response times are counted in classes, each 2 % wider than the
previous one, so that percentiles are accurate to 1 % on every database without sorting the rows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    FloatField,
    Func,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.functions import Floor, Greatest, Ln, TruncDay, TruncHour
from django.utils import timezone

from ..models import Call, Verification

DAYS = {"day": 1, "week": 7, "month": 30}
"""Days of each period."""

CLASS_WIDTH = 1.02
"""Ratio of the longest to the shortest response time of a class."""


@dataclass(slots=True)
class Bucket:
    """The figures of an hour or a day.

    Attributes:
        start: its start, in the current time zone.
        calls: number of calls by `Call.Status`.
        started: number of verifications started.
        verified: how many of them succeeded.
        p50: median response time in milliseconds; None without responses.
        p95: 95th percentile response time in milliseconds; None without responses.
        cost: sum of the known prices.
    """

    start: datetime
    calls: Counter[str] = field(default_factory=Counter)
    started: int = 0
    verified: int = 0
    p50: float | None = None
    p95: float | None = None
    cost: Decimal = Decimal(0)

    @property
    def share_verified(self) -> float | None:
        """The conversion rate, 0 to 1; None if no verification was started."""
        return self.verified / self.started if self.started else None


@dataclass(slots=True)
class Group:
    """Calls to one operator or country."""

    name: str
    calls: int
    delivered: int
    undelivered: int
    rejected: int
    cost: Decimal


@dataclass(slots=True)
class Figures:
    """All figures of a period.

    Attributes:
        period: ``day`` (by hours), ``week`` or ``month`` (30 days; both by days), up to now.
        buckets: its hours or days, including empty ones, oldest first.
        total: the figures of the whole period.
        reasons: `Call.error_code` and number of calls, most frequent first.
        networks: operators by `Call.mcc_mnc`, if reported; most calls first.
        countries: by ISO code; most calls first.
        priced: number of calls with a known price.
    """

    period: str
    buckets: list[Bucket]
    total: Bucket
    reasons: list[tuple[str, int]]
    networks: list[Group]
    countries: list[Group]
    priced: int = 0


def figures(period: str, *, now: datetime | None = None) -> Figures:
    """Return the figures of a period that ends now.

    Args:
        period: a key of `DAYS`.
        now: the end of the period, for tests.
    """
    now = now or timezone.now()
    starts = list(_starts(period, now))
    buckets = {start: Bucket(start) for start in starts}
    total = Bucket(starts[0])
    period_calls = Call.objects.filter(created_at__gte=starts[0], created_at__lte=now).order_by()
    # No provider was asked for the others, and nobody could enter their code.
    calls = period_calls.filter(is_test=False)
    found = Figures(period, [], total, [], [], [])
    trunc = TruncHour if period == "day" else TruncDay

    rows: QuerySet[Any, Any] = calls.annotate(bucket=trunc("created_at")).values("bucket")
    for row in rows.values("bucket", "status").annotate(
        calls=Count("pk"), cost=Sum("price"), priced=Count("price")
    ):
        for bucket in (buckets.setdefault(row["bucket"], Bucket(row["bucket"])), total):
            bucket.calls[row["status"]] += row["calls"]
            bucket.cost += row["cost"] or 0
        found.priced += row["priced"]

    begun = Verification.objects.filter(created_at__gte=starts[0], created_at__lte=now).order_by()
    begun = begun.exclude(pk__in=period_calls.filter(is_test=True).values("verification"))
    for row in (
        begun.annotate(bucket=trunc("created_at"))
        .values("bucket")
        .annotate(started=Count("pk"), verified=Count("verified_at"))
    ):
        for bucket in (buckets.setdefault(row["bucket"], Bucket(row["bucket"])), total):
            bucket.started += row["started"]
            bucket.verified += row["verified"]

    times: dict[datetime, Counter[int]] = defaultdict(Counter)
    everything: Counter[int] = Counter()
    answered = rows.filter(answered_at__isnull=False).annotate(time_class=_time_class())
    for row in answered.values("bucket", "time_class").annotate(calls=Count("pk")):
        times[row["bucket"]][int(row["time_class"])] += row["calls"]
        everything[int(row["time_class"])] += row["calls"]
    for start, classes in times.items():
        bucket = buckets.setdefault(start, Bucket(start))
        bucket.p50, bucket.p95 = _percentile(classes, 0.5), _percentile(classes, 0.95)
    total.p50, total.p95 = _percentile(everything, 0.5), _percentile(everything, 0.95)

    found.buckets = [buckets[start] for start in sorted(buckets)]
    found.reasons = list(
        calls.exclude(error_code="")
        .values_list("error_code")
        .annotate(calls=Count("pk"))
        .order_by("-calls", "error_code")
    )
    found.networks = _grouped(
        (row["mcc_mnc"], row)
        for row in calls.exclude(mcc_mnc="").values("mcc_mnc").annotate(**_SUMS)
    )
    found.countries = _grouped(
        (row["country"], row) for row in calls.values("country").annotate(**_SUMS)
    )
    return found


def _starts(period: str, now: datetime) -> Iterator[datetime]:
    """Yield the start of each hour or day of a period, in the current time zone."""
    aware = timezone.is_aware(now)
    local = timezone.localtime(now) if aware else now
    if period == "day":
        hour = local.replace(minute=0, second=0, microsecond=0)
        for hours in range(23, -1, -1):
            if aware:  # elapsed hours, even if the clocks change
                yield timezone.localtime(hour.astimezone(UTC) - timedelta(hours=hours))
            else:
                yield hour - timedelta(hours=hours)
        return
    today = local.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    for days in range(DAYS[period] - 1, -1, -1):
        start = today - timedelta(days=days)
        yield timezone.make_aware(start) if aware else start


class _Milliseconds(Func):
    """A duration in milliseconds."""

    output_field = FloatField()
    template = "(%(expressions)s / 1000.0)"  # microseconds, without a native type

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        template = "(EXTRACT(EPOCH FROM %(expressions)s)::float8 * 1000)"
        return self.as_sql(compiler, connection, template=template)


def _time_class() -> Floor:
    """Return the class of a response time: log of its milliseconds to base `CLASS_WIDTH`."""
    took = ExpressionWrapper(F("answered_at") - F("created_at"), output_field=DurationField())
    milliseconds = Greatest(_Milliseconds(took), Value(1.0))
    return Floor(Ln(milliseconds) / Value(math.log(CLASS_WIDTH)))


def _percentile(classes: Mapping[int, int], part: float) -> float | None:
    """Return a percentile in milliseconds, as the middle of its class; `part` is 0 to 1."""
    rank = math.ceil(part * sum(classes.values()))
    for time_class in sorted(classes):
        rank -= classes[time_class]
        if rank <= 0:
            return float(CLASS_WIDTH ** (time_class + 0.5))
    return None


_SUMS: Mapping[str, Any] = {
    "calls": Count("pk"),
    "delivered": Count("pk", filter=Q(status=Call.Status.DELIVERED)),
    "undelivered": Count("pk", filter=Q(status=Call.Status.UNDELIVERED)),
    "rejected": Count("pk", filter=Q(status=Call.Status.REJECTED)),
    "cost": Sum("price"),
}


def _grouped(rows: Iterable[tuple[str, Any]]) -> list[Group]:
    names = ("calls", "delivered", "undelivered", "rejected")
    groups = [
        Group(name, **{key: row[key] for key in names}, cost=row["cost"] or Decimal(0))
        for name, row in rows
    ]
    return sorted(groups, key=lambda group: (-group.calls, group.name))
