"""The fraud guard: pumping shows as calls that nobody completes.

Whoever earns from calls to a range of numbers has them placed by the thousand, from many addresses
and slowly enough for every fixed limit. What gives it away is that nobody does what the call was
for. So the guard weighs, for the range and for the address of a call, the calls that nobody
completed against the numbers that did, and refuses where there are far more of the former than
chance explains: more than a share that is usual there, by three standard deviations.

The idea, that what is unverified is held against what is verified and against its own past, is that
of Authgear's fraud protection; counting numbers by the day and redeemed tokens is ours.
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
from django.db.models import Case, Count, Exists, F, IntegerField, Max, OuterRef, Q, QuerySet, When
from django.db.models.functions import TruncDate

from .. import phones, signals
from ..conf import conf
from ..exceptions import TooManyCalls
from ..models import Attempt, Call, GuardDecision, Phone, Refusal, Verification
from .visitors import Source

logger = logging.getLogger("django_flashcall")

DAY = timedelta(days=1)
MEMORY = timedelta(days=30)
"""How long a range is remembered; an address changes hands, and is remembered for a day."""

PATIENCE = timedelta(minutes=10)
"""Calls younger than this prove nothing: the person may still be typing."""

TRIES = 3
"""Calls of one number and day that count: who has bad luck asks again, and is one person."""

TRIES_OF_NUMBER = 5
"""Calls of one number that count in all: whoever harasses one number does not close its range."""

FLOOR_OF_DAY = 5
"""Uncompleted calls of a day that are never suspicious, however few are completed."""

FLOOR_OF_MEMORY = 10
"""The same of `MEMORY`."""

USUAL_SHARE = 0.5
"""The share of uncompleted calls that is borne where nothing better is known of the past."""

LOWEST_SHARE = 0.25
"""The share that is borne everywhere."""

DEVIATIONS = 3
"""Standard deviations above the usual share: chance exceeds that once in 700 cases."""

ASK_AGAIN = timedelta(hours=1)
"""What a refused visitor is told to wait."""

Scope = GuardDecision.Scope
Key = tuple[int, date, int]
"""A number, a day, and whether its calls are of the last 24 hours."""


@dataclass(slots=True)
class Evidence:
    """What speaks against and for a range or an address.

    Attributes:
        unverified: calls that nobody completed, at most `TRIES` of a number and day and
            `TRIES_OF_NUMBER` of a number in all.
        honest: numbers that did what they came for, once a day.
    """

    unverified: int = 0
    honest: int = 0
    _against: Counter[int] = field(default_factory=Counter, repr=False)

    def add(self, number: int, calls: int, *, honest: bool) -> None:
        """Weigh the calls of one number on one day."""
        self.honest += honest
        # Of an honest number, what is more than a person needs: somebody may complete codes on
        # numbers of his own.
        against = max(0, calls - TRIES) if honest else min(calls, TRIES)
        against = min(against, TRIES_OF_NUMBER - self._against[number])
        self._against[number] += against
        self.unverified += against

    def allowed(self, floor: int, share: float) -> int:
        """Return how many uncompleted calls are usual among so many."""
        calls = self.unverified + self.honest
        expected = share * calls + DEVIATIONS * math.sqrt(share * (1 - share) * calls)
        return max(floor, math.floor(expected))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why calls to a range or from an address should be refused."""

    scope: GuardDecision.Scope
    value: str
    evidence: Evidence
    allowed: int


def check(phone: Phone, source: Source, now: datetime, user: Any = None) -> None:
    """Refuse a call to a range or from an address where pumping shows; one query where none does.

    Args:
        phone: the number, saved or not.
        source: where the request comes from.
        now: the moment of the call.
        user: who is logged in; their own number is not held to its range's account. (Anybody's
            own number would be: else an answer would tell which numbers have accounts.)

    Raises:
        TooManyCalls: the guard's mode is ``deny`` and nobody has overruled it.
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


def _weighed(prefix: str, network: str, now: datetime) -> Iterator[Evidence]:
    """Return the evidence of a range before today, today and in all, and of an address today."""
    in_range = Q(prefix=prefix) if prefix else Q(pk=None)
    from_address = Q(network=network) if network else Q(pk=None)
    calls = Call.objects.filter(
        (in_range & Q(created_at__gt=now - MEMORY)) | (from_address & Q(created_at__gt=now - DAY))
    ).annotate(in_range=_flag(in_range), from_address=_flag(from_address))
    evidence: dict[str, Counter[Key]] = {name: Counter() for name in ("range", "address")}
    honest: set[Key] = set()
    for row in by_number_and_day(calls, now, "in_range", "from_address"):
        key = row["phone_id"], row["day"], row["is_recent"]
        if row["in_range"]:
            evidence["range"][key] += row["calls"]
        if row["from_address"] and row["is_recent"]:
            evidence["address"][key] += row["calls"]
        if row["is_honest"]:
            honest.add(key)
    past = [key for key in evidence["range"] if not key[2]]
    today = [key for key in evidence["range"] if key[2]]
    for name, keys in (
        ("range", past),
        ("range", today),
        ("range", past + today),
        ("address", list(evidence["address"])),
    ):
        weighed = Evidence()
        for key in keys:
            weighed.add(key[0], evidence[name][key], honest=key in honest)
        yield weighed


def by_number_and_day(
    calls: QuerySet[Call], now: datetime, *names: str
) -> QuerySet[Call, dict[str, Any]]:
    """Group calls by number and day, with whether the number did what it came for.

    Honest is what was redeemed, where its purpose has ever been redeemed; else what was verified.

    Args:
        calls: those to weigh; test numbers, rejected calls and very young ones are left out.
        now: the end of the last day.
        names: fields of a call to group by as well.
    """
    redeemable = Verification.objects.filter(
        purpose=OuterRef("verification__purpose"), redeemed_at__isnull=False
    )
    honest = Q(verification__redeemed_at__isnull=False) | (
        ~Exists(redeemable) & Q(verification__verified_at__isnull=False)
    )
    young = Q(created_at__gt=now - PATIENCE)
    grouped: QuerySet[Call, dict[str, Any]] = (
        calls.filter(~young | Q(verification__redeemed_at__isnull=False), is_test=False)
        .exclude(status=Call.Status.REJECTED)
        .annotate(
            day=TruncDate("created_at", tzinfo=UTC),
            is_recent=_flag(Q(created_at__gt=now - DAY)),
            honest=_flag(honest),
        )
        .order_by()
        .values("phone_id", "day", "is_recent", *names)
        .annotate(calls=Count("pk"), is_honest=Max("honest"))
    )
    return grouped


def _flag(condition: Q) -> Case:
    """1 where it holds, else 0: databases take no maximum of truth values."""
    return Case(When(condition, then=1), default=0, output_field=IntegerField())


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
    day = Call.objects.filter(created_at__gt=now - DAY)
    found = []
    for scope, name in ((Scope.COUNTRY, "country"), (Scope.OPERATOR, "mcc_mnc")):
        by_value: dict[str, Evidence] = {}
        for row in by_number_and_day(day.exclude(**{name: ""}), now, name).iterator():
            evidence = by_value.setdefault(row[name], Evidence())
            evidence.add(row["phone_id"], row["calls"], honest=bool(row["is_honest"]))
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
