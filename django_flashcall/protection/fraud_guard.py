"""The fraud guard, against SMS pumping (toll fraud, artificially inflated traffic).

Fraudsters who get a share of the fees for calls to a range of numbers make the site call it, from
many addresses and slowly enough for every fixed limit. They give themselves away because nobody
completes these verifications. For the range and the address of each call, the guard compares calls
that were not completed with numbers that completed. It refuses the call if the former exceed their
usual share by three standard deviations.

Comparing unverified with verified calls and with the past is the idea of Authgear's fraud
protection. Counting numbers by day and redeemed tokens is ours.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import IntegrityError, router, transaction
from django.db.models import Count, F, Max, Q, QuerySet, Value

from .. import phones, signals
from ..conf import conf
from ..exceptions import TooManyCalls
from ..models import Attempt, Call, GuardDecision, Phone, Refusal
from ..prepared import Prepared, Unknown
from .visitors import Source

logger = logging.getLogger("django_flashcall")

DAY = timedelta(days=1)
MEMORY = timedelta(days=30)
"""How far back a range is judged. For an address it is a day, because addresses change hands."""

PATIENCE = timedelta(minutes=10)
"""Calls younger than this are ignored: the person may still be entering the code."""

TRIES = 3
"""Uncompleted calls to a number that count per day: one person may request several."""

TRIES_OF_NUMBER = 5
"""Uncompleted calls to a number that count in all, so that one number cannot close its range."""

FLOOR_OF_DAY = 5
"""Uncompleted calls per day that are never suspicious."""

FLOOR_OF_MEMORY = 10
"""The same for `MEMORY`."""

USUAL_SHARE = 0.5
"""The usual share of uncompleted calls where the past says nothing else."""

LOWEST_SHARE = 0.25
"""The lowest usual share."""

DEVIATIONS = 3
"""Allowed standard deviations above the usual share; chance exceeds them once in 700 cases."""

ASK_AGAIN = timedelta(hours=1)
"""The time that refused visitors are told to wait."""

Scope = GuardDecision.Scope
SAMPLE = 100
"""Calls to a range or from an address that are judged: the newest of today, and as many of before.

This makes a decision cost the same however popular the range or the address is.
"""

Key = tuple[int, date, bool]
"""A number, a day, and whether its calls are of the last 24 hours."""


@dataclass(slots=True)
class Evidence:
    """The figures for a range or an address.

    Attributes:
        unverified: calls that were not completed, at most `TRIES` of a number and day and
            `TRIES_OF_NUMBER` of a number in all.
        honest: numbers that completed, counted once a day.
    """

    unverified: int = 0
    honest: int = 0
    _against: dict[int, int] = field(default_factory=dict, repr=False)

    def add(self, number: int, calls: int, *, honest: bool) -> None:
        """Add the calls of one number on one day."""
        self.honest += honest
        # Also count excess calls of a number that completed: fraudsters complete codes on numbers
        # of their own.
        against = max(0, calls - TRIES) if honest else min(calls, TRIES)
        if against:
            before = self._against.get(number, 0)
            self._against[number] = min(before + against, TRIES_OF_NUMBER)
            self.unverified += self._against[number] - before

    def allowed(self, floor: int, share: float) -> int:
        """Return the number of uncompleted calls that chance explains."""
        calls = self.unverified + self.honest
        expected = share * calls + DEVIATIONS * math.sqrt(share * (1 - share) * calls)
        return max(floor, math.floor(expected))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A reason to refuse calls to a range or from an address."""

    scope: GuardDecision.Scope
    value: str
    evidence: Evidence
    allowed: int


def check(phone: Phone, source: Source, now: datetime, user: Any = None) -> None:
    """Raise an error if the range or the address of a call is suspicious.

    Args:
        phone: the number, saved or not.
        source: the source of the request.
        now: time of the call.
        user: the logged-in user. Their own number is not judged by its range. The numbers of other
            users are, or else the response would reveal which numbers have accounts.

    Raises:
        TooManyCalls: ``FRAUD_GUARD`` is ``deny``, and the decision is not overruled.
    """
    mode = conf.FRAUD_GUARD
    if mode == "off":
        return
    owned = user is not None and phone.owner_id == user.pk
    prefix = "" if owned else phones.prefix(phone.number)
    for suspicion in _suspicions(prefix, source.network, now):
        if not _is_overruled(suspicion, now):
            _record(suspicion, now, denied=mode == "deny")
            if mode == "deny":
                raise TooManyCalls(
                    retry_after=int(ASK_AGAIN.total_seconds()), scope=Refusal.Scope.GUARD
                )


def _suspicions(prefix: str, network: str, now: datetime) -> Iterator[Suspicion]:
    past, today, whole, address = _weighed(prefix, network, now)
    yield from _suspicion(Scope.PREFIX, prefix, today, FLOOR_OF_DAY, _usual_share(past))
    yield from _suspicion(Scope.PREFIX, prefix, whole, FLOOR_OF_MEMORY, USUAL_SHARE)
    yield from _suspicion(Scope.ADDRESS, network, address, FLOOR_OF_DAY, USUAL_SHARE)


def _suspicion(
    scope: GuardDecision.Scope, value: str, evidence: Evidence, floor: int, share: float
) -> Iterator[Suspicion]:
    allowed = evidence.allowed(floor, share)
    if evidence.unverified > allowed:
        yield Suspicion(scope, value, evidence, allowed)


def _usual_share(past: Evidence) -> float:
    """Return the share of uncompleted calls that is borne: half more than there was before.

    Twenty imagined calls with the usual share keep a short past from deciding.
    """
    calls = past.unverified + past.honest
    share = (past.unverified + 20 * USUAL_SHARE) / (calls + 20)
    return min(USUAL_SHARE, max(LOWEST_SHARE, 1.5 * share))


def _weighed(prefix: str, network: str, now: datetime) -> tuple[Evidence, ...]:
    """Return the evidence of a range before today, today and in all, and of an address today."""
    values = {"prefix": prefix, "network": network}
    today, young = now - DAY, now - PATIENCE
    calls: Counter[tuple[str, Key]] = Counter()
    honest: set[Key] = set()
    completed = int(Call.Progress.COMPLETED)
    for name, phone, at, progress in _SAMPLE.rows(
        *(name for name in values if values[name]),
        since=now - MEMORY,
        today=today,
        young=young,
        **{name: value for name, value in values.items() if value},
    ):
        key = phone, at.date(), at > today
        if progress == completed:
            honest.add(key)
        elif at > young:
            continue
        calls[name, key] += 1
    past, recent, whole, address = evidence = tuple(Evidence() for _ in range(4))
    for (name, key), number in calls.items():
        is_honest = key in honest
        if name == "network":
            address.add(key[0], number, honest=is_honest)
        else:
            (recent if key[2] else past).add(key[0], number, honest=is_honest)
            whole.add(key[0], number, honest=is_honest)
    return evidence


def _sample(
    *names: str, since: Any, today: Any, young: Any, **values: Any
) -> list[QuerySet[Any, Any]]:
    """Return the newest calls of a range and of an address, at most `SAMPLE` of each part."""
    parts: list[QuerySet[Any, Any]] = []
    for name in names:
        calls = Call.objects.filter(is_test=False, **{name: Unknown(values[name])})
        calls = calls.exclude(status=Call.Status.REJECTED).order_by("-created_at")
        rows = calls.annotate(of=Value(name)).values_list("of", "phone", "created_at", "progress")
        if name == "prefix":
            parts.append(rows.filter(created_at__gt=since, created_at__lte=today)[:SAMPLE])
        parts.append(rows.filter(created_at__gt=today, created_at__lte=young)[:SAMPLE])
        parts.append(rows.filter(created_at__gt=young)[: SAMPLE // 4])
    return parts


_SAMPLE = Prepared(Call, _sample)


def _is_overruled(suspicion: Suspicion, now: datetime) -> bool:
    return GuardDecision.objects.filter(
        scope=suspicion.scope,
        value=suspicion.value,
        overruled_at__gt=now - MEMORY,
    ).exists()


def _record(suspicion: Suspicion, now: datetime, *, denied: bool) -> None:
    """Write a decision down, once a day; the first time, tell who wants to know."""
    figures = {
        "denied": denied,
        "unverified": suspicion.evidence.unverified,
        "honest": suspicion.evidence.honest,
        "allowed": suspicion.allowed,
    }
    key = {"scope": suspicion.scope, "value": suspicion.value, "day": now.astimezone(UTC).date()}
    row = GuardDecision.objects.filter(**key)
    if row.update(count=F("count") + 1, **figures):
        return
    try:
        with transaction.atomic(using=router.db_for_write(GuardDecision)):
            decision = GuardDecision.objects.create(**key, **figures, created_at=now)
    except IntegrityError:  # somebody else was faster
        row.update(count=F("count") + 1)
        return
    logger.warning(
        "The fraud guard %s calls: %s %s has %d that nobody completed, %d are usual.",
        "refuses" if denied else "suspects",
        suspicion.scope,
        suspicion.value,
        suspicion.evidence.unverified,
        suspicion.allowed,
    )
    signals.fraud_suspected.send_robust(GuardDecision, decision=decision)


def survey(now: datetime) -> list[GuardDecision]:
    """Look at whole countries and operators, and at wrong codes site-wide; report, refuse nothing.

    Any of them may be the whole audience of a site, so that people decide. Run it once an hour
    (``manage.py flashcall_survey``); each is reported once a day.

    Returns:
        what was found suspicious.
    """
    day = Call.objects.filter(created_at__gt=now - DAY, is_test=False)
    day = day.exclude(status=Call.Status.REJECTED)
    settled = Q(created_at__lte=now - PATIENCE) | Q(progress=Call.Progress.COMPLETED)
    found = []
    for scope, name in ((Scope.COUNTRY, "country"), (Scope.OPERATOR, "mcc_mnc")):
        by_value: dict[str, Evidence] = {}
        numbers = day.filter(settled).exclude(**{name: ""}).order_by().values(name, "phone_id")
        for row in numbers.annotate(calls=Count("pk"), progress=Max("progress")).iterator():
            evidence = by_value.setdefault(row[name], Evidence())
            honest = row["progress"] == Call.Progress.COMPLETED
            evidence.add(row["phone_id"], row["calls"], honest=honest)
        for value, evidence in by_value.items():
            allowed = evidence.allowed(FLOOR_OF_MEMORY, USUAL_SHARE)
            if evidence.unverified > allowed:
                found.append(Suspicion(scope, value, evidence, allowed))
    for suspicion in found:
        _record(suspicion, now, denied=False)
    _survey_codes(now)
    today = GuardDecision.objects.filter(day=now.astimezone(UTC).date(), denied=False)
    return list(today.filter(scope__in=(Scope.COUNTRY, Scope.OPERATOR)))


def _survey_codes(now: datetime) -> None:
    """Tell where wrong codes of the last day are far above those of the days before."""
    wrong = Attempt.objects.filter(right=False, created_at__gt=now - MEMORY)
    by_day = [0] * MEMORY.days
    for at in wrong.values_list("created_at", flat=True).iterator():
        by_day[(now - at) // DAY] += 1
    today, usual = by_day[0], sum(by_day[1:]) / (MEMORY.days - 1)
    if today > max(FLOOR_OF_MEMORY, 2 * usual + DEVIATIONS * math.sqrt(usual)):
        logger.warning("%d wrong codes in a day, %d are usual.", today, usual)
        signals.wrong_codes_rise.send_robust(Attempt, wrong=today, usual=usual)
