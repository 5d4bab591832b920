"""A look at whole countries and operators, and at wrong codes site-wide. Nothing is refused."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q

from .. import signals
from ..models import Attempt, Call, GuardDecision
from . import evidence, fraud_guard
from .evidence import Evidence

logger = logging.getLogger("django_flashcall")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

DAYS = 30
"""Days of wrong codes that are compared, if they are still stored."""

FLOOR = 10
"""Uncompleted calls of a country or operator, or wrong codes, that are never reported."""

Scope = GuardDecision.Scope


def survey(now: datetime) -> list[GuardDecision]:
    """Look at whole countries and operators, and at wrong codes site-wide; report, refuse nothing.

    Any of them may be the whole audience of a site, so that people decide. Run it once an hour
    (``manage.py flashcall_survey``): countries and operators are reported once a day, but for those
    that a person opened, and wrong codes when they rise.

    Returns:
        what was found suspicious.
    """
    day = Call.objects.filter(created_at__gt=now - DAY, is_test=False)
    day = day.exclude(status=Call.Status.REJECTED)
    settled = Q(created_at__lte=now - evidence.PATIENCE) | Q(progress=Call.Progress.COMPLETED)
    found = []
    for scope, name in ((Scope.COUNTRY, "country"), (Scope.OPERATOR, "mcc_mnc")):
        by_value: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        numbers = day.filter(settled).exclude(**{name: ""}).order_by().values(name, "phone_id")
        for row in numbers.annotate(calls=Count("pk"), progress=Max("progress")).iterator():
            honest = row["progress"] == Call.Progress.COMPLETED
            calls = max(0, row["calls"] - evidence.TRIES) if honest else row["calls"]
            by_value[row[name]][0] += min(calls, evidence.TRIES)
            by_value[row[name]][1] += honest
        for value, (unverified, honest) in by_value.items():
            allowed = Evidence(unverified, honest).allowed(FLOOR, evidence.USUAL_SHARE, 3)
            if unverified > allowed:
                decision = GuardDecision(scope=scope, value=value, denied=False, created_at=now)
                decision.unverified, decision.honest = unverified, honest
                decision.allowed = round(allowed, 1)
                found.append(decision)
    stored = GuardDecision.objects.filter(scope__in=(Scope.COUNTRY, Scope.OPERATOR))
    known = {(row.scope, row.value): row for row in stored}
    reported = []
    for decision in found:
        if row := known.get((decision.scope, decision.value)):
            if row.mode == GuardDecision.Mode.OPEN:
                continue
            decision.pk, decision.last_at, decision.mode = row.pk, row.last_at, row.mode
        fraud_guard.store(decision, now, denied=False, refused=0)
        reported.append(decision)
    _survey_codes(now)
    return reported


def _survey_codes(now: datetime) -> None:
    """Tell when the wrong codes of the last day rise far above those of the days before."""
    wrong = Attempt.objects.filter(created_at__gt=now - DAYS * DAY, created_at__lte=now)
    times = list(wrong.values_list("created_at", flat=True))
    today, usual = _by_day(times, now)
    if _is_high(today, usual) and not _is_high(*_by_day(times, now - HOUR)):
        logger.warning("%d wrong codes in a day, %d are usual.", today, usual)
        signals.wrong_codes_rise.send_robust(Attempt, wrong=today, usual=usual)


def _by_day(times: list[datetime], now: datetime) -> tuple[int, float]:
    """Return the number in the day before a moment, and the mean of the days before that."""
    days = [(now - time) // DAY for time in times if time <= now]
    earlier = [day for day in days if day]
    return len(days) - len(earlier), len(earlier) / max(earlier, default=1)


def _is_high(today: int, usual: float) -> bool:
    return today > max(FLOOR, 2 * usual + 3 * math.sqrt(usual))
