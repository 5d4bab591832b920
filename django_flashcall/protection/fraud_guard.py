"""The fraud guard, against SMS pumping (toll fraud, artificially inflated traffic).

Fraudsters who get a share of the fees for calls to a range of numbers make the site call it, from
many addresses and slowly enough for every fixed limit. They give themselves away because nobody
completes these verifications. For the range and the address of each call, the guard compares calls
that were not completed with numbers that completed. If there are more of the former than chance
explains, it narrows the range or the address to a trickle. It never closes anything: otherwise a
few calls of an attacker would switch off the sign-up of everybody else.

Comparing unverified with verified calls and with the past is the idea of Authgear's fraud
protection; that those who come back pass is the idea of greylisting e-mail (RFC 6647). Counting
numbers by day and redeemed tokens, and the trickle that follows completions, is ours.
"""

from __future__ import annotations

import enum
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from django.db import IntegrityError, router, transaction
from django.db.models import Case, F, Q, QuerySet, When
from django.utils.crypto import salted_hmac

from .. import phones, signals
from ..conf import Rate, conf
from ..exceptions import TooManyCalls
from ..models import Call, GuardDecision, GuardRequest, Phone, Refusal
from ..prepared.queries import Parameter, Prepared
from ..prepared.records import Integer, Record, Seconds, Unknown, first_part, part, seconds_of
from . import budget, evidence
from .evidence import Evidence, Observed, Strictness, Trickle
from .visitors import Source

logger = logging.getLogger("django_flashcall")

DAY = timedelta(days=1)
MEMORY = timedelta(days=21)
"""How far back calls are read. By then, their weight is next to nothing."""

ASK_AGAIN = timedelta(hours=1)
"""The time that visitors are told to wait where a person closed a range."""

STRICT_FROM = 3
"""The guard is stricter while more than this part of ``CALLS_TOTAL`` is spent."""

AHEAD = timedelta(minutes=1)
"""A time further ahead is from before the clock was set back."""

REQUESTS = 1000
"""Refused requests to a range that are remembered in an hour."""

FROM_NETWORK = 20
"""Those from one network: otherwise, a single attacker would use up all of the range."""

Scope = GuardDecision.Scope
Mode = GuardDecision.Mode

SAMPLE = 100
"""Calls to a range or from an address that are judged: the newest of today, and as many of before.

This makes a decision cost the same however popular the range or the address is.
"""


@dataclass(slots=True)
class Seen:
    """What is stored about the range and the address of a call.

    Attributes:
        calls: calls of each scope, newest first.
        decisions: the rows of the guard.
        spent: calls counted by ``CALLS_TOTAL``; 0 without that limit.
    """

    calls: dict[str, list[Observed]] = field(default_factory=lambda: defaultdict(list))
    decisions: dict[str, GuardDecision] = field(default_factory=dict)
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A range or an address that is narrowed, and what passes.

    Attributes:
        decision: its row.
        trickle: what passes.
    """

    decision: GuardDecision
    trickle: Trickle

    def take(self, now: datetime, kind: Kind) -> bool:
        """Take the next call of a trickle; return False if another request was faster."""
        name = kind.column
        wait = kind.wait(self.trickle)
        free = Q(**{name: None}) | Q(**{f"{name}__lte": now - wait})
        free |= Q(**{f"{name}__gt": now + AHEAD})
        row = GuardDecision.objects.filter(free, pk=self.decision.pk)
        return bool(row.update(**{name: now}, passed=F("passed") + 1))

    def free_in(self, now: datetime, kind: Kind) -> timedelta:
        """Return the time until the next call of a trickle passes, 0 if it can pass now."""
        last: datetime | None = getattr(self.decision, kind.column)
        if last is None or last > now + AHEAD:
            return timedelta()
        return max(timedelta(), last + kind.wait(self.trickle) - now)


class Kind(enum.Enum):
    """How a call passes: at once, after asking twice, or with the site's challenge."""

    AT_ONCE = "passed_at"
    RETURNING = "returned_at"
    SOLVED = "solved_at"

    @property
    def column(self) -> str:
        """The column of the last call that passed like this."""
        return self.value

    def wait(self, trickle: Trickle) -> timedelta:
        """Return the time between two calls."""
        match self:
            case Kind.AT_ONCE:
                return trickle.wait
            case Kind.RETURNING:
                return trickle.returning
        return trickle.solved


@dataclass(frozen=True, slots=True)
class Passage:
    """Permission for a call that something speaks against; see `take`.

    Attributes:
        narrowings: what it has to pass.
        kind: how it passes.
        key: of the request that a returning visitor made before.
    """

    narrowings: Sequence[Narrowing]
    kind: Kind
    key: str = ""

    def take(self, now: datetime) -> None:
        """Take the call from each trickle, in the transaction that counts it.

        Raises:
            TooManyCalls: another request was faster.
        """
        # One order everywhere, so that two transactions cannot wait for each other.
        fits = all(narrowing.take(now, self.kind) for narrowing in self.narrowings)
        if fits and self.key:
            fits = bool(GuardRequest.objects.filter(key=self.key).delete()[0])
        if not fits:
            raise _refusal(evidence.RETURN_AFTER)


def check(
    phone: Phone,
    source: Source,
    now: datetime,
    *,
    spent: int | None = None,
    challenged: bool = False,
) -> Passage | None:
    """Judge the range and the address of a call.

    Args:
        phone: the number, saved or not.
        source: the source of the request.
        now: time of the call.
        spent: the calls counted by ``CALLS_TOTAL``; None to read it.
        challenged: the visitor has solved the site's ``CHALLENGE``.

    Returns:
        None if nothing speaks against the call; otherwise what it has to `Passage.take`.

    Raises:
        TooManyCalls: ``FRAUD_GUARD`` is ``deny``, and the call does not fit into the trickle.
    """
    mode = conf.FRAUD_GUARD
    # The owner and known devices have a small limit of their own. Strangers are judged for their
    # numbers too, or else the response would reveal which numbers have accounts.
    if mode == "off" or source.is_known:
        return None
    found = _find(phone, source, now, spent)
    _record(found.watched, now, denied=False)
    if mode != "deny":
        _record(found.narrowed, now, denied=False)
        return None
    if found.closed is not None:
        _refuse_closed(found.closed, now)
    if not found.narrowed:
        return None
    if not _longest(found.narrowed, now, Kind.AT_ONCE):
        _tell(found.narrowed, now)
        return Passage(found.narrowed, Kind.AT_ONCE)
    if challenged:
        wait = _longest(found.narrowed, now, Kind.SOLVED)
        if not wait:
            _tell(found.narrowed, now)
            return Passage(found.narrowed, Kind.SOLVED)
        _record(found.narrowed, now, denied=True)
        raise _refusal(wait)
    return _return(phone.number, source, found.narrowed, now)


def check_closed(phone: Phone, source: Source, now: datetime) -> None:
    """Refuse a call to a range or from an address that a person has closed.

    Args:
        phone, source, now: see `check`.

    Raises:
        TooManyCalls: it is closed.
    """
    if conf.FRAUD_GUARD != "deny" or source.is_known:
        return
    where = Q(scope=Scope.PREFIX, value=phones.prefix(phone.number))
    if source.network:
        where |= Q(scope=Scope.ADDRESS, value=source.network)
    closed = GuardDecision.objects.filter(where, mode=Mode.CLOSED).first()
    if closed is not None:
        _refuse_closed(closed, now)


def _refuse_closed(decision: GuardDecision, now: datetime) -> None:
    row = GuardDecision.objects.filter(pk=decision.pk)
    row.update(count=F("count") + 1, last_at=now)
    raise _refusal(ASK_AGAIN)


def is_narrowed(phone: Phone, source: Source, now: datetime) -> bool:
    """Return True if the range or the address of a call is narrowed."""
    return conf.FRAUD_GUARD == "deny" and bool(_find(phone, source, now).narrowed)


@dataclass(slots=True)
class Found:
    """What the guard and people decided about a call."""

    narrowed: list[Narrowing] = field(default_factory=list)
    watched: list[Narrowing] = field(default_factory=list)
    closed: GuardDecision | None = None


def _find(phone: Phone, source: Source, now: datetime, spent: int | None = None) -> Found:
    prefix = phones.prefix(phone.number)
    seen = _look(prefix, source.network, now, spent)
    found = Found()
    for scope, value in ((Scope.ADDRESS, source.network), (Scope.PREFIX, prefix)):
        decision = seen.decisions.get(scope)
        rule = decision.mode if decision else Mode.AUTO
        if not value or rule == Mode.OPEN:
            continue
        if rule == Mode.CLOSED:
            found.closed = decision
            continue
        calls = seen.calls[scope]
        if scope == Scope.ADDRESS:  # a person who asks again says nothing about the address
            calls = [call for call in calls if call.number != phone.pk]
        narrowing = judge(scope, value, calls, seen, now, conf.CALLS_TOTAL)
        if narrowing is not None:
            (found.narrowed if rule == Mode.AUTO else found.watched).append(narrowing)
    return found


def _longest(narrowings: Iterable[Narrowing], now: datetime, kind: Kind) -> timedelta:
    return max(narrowing.free_in(now, kind) for narrowing in narrowings)


def what_passes(decision: GuardDecision, now: datetime) -> Trickle | None:
    """Return what passes of a range or an address now; None if it is not narrowed any more."""
    scope = Scope(decision.scope)
    is_range = scope == Scope.PREFIX
    seen = _look(*((decision.value, "") if is_range else ("", decision.value)), now)
    narrowing = judge(scope, decision.value, seen.calls[scope], seen, now, conf.CALLS_TOTAL)
    return None if narrowing is None else narrowing.trickle


def _return(number: str, source: Source, narrowings: Sequence[Narrowing], now: datetime) -> Passage:
    """Let a visitor pass who was refused and has come back; remember one who was not.

    Raises:
        TooManyCalls: the visitor has to wait.
    """
    key = request_key(number, source)
    wait = _longest(narrowings, now, Kind.RETURNING)
    asked_at = _asked_at(key, number, source, now)
    wait = max(wait, asked_at + evidence.RETURN_AFTER - now)
    if not wait:
        _tell(narrowings, now)
        return Passage(narrowings, Kind.RETURNING, key)
    _record(narrowings, now, denied=True)
    raise _refusal(wait)


def request_key(number: str, source: Source) -> str:
    """Return what a refused request is remembered by: a keyed digest of number and network."""
    return _digest(f"{number}|{source.network}")


def _digest(text: str) -> str:
    return salted_hmac("django_flashcall.guard", text, algorithm="sha256").hexdigest()


def _asked_at(key: str, number: str, source: Source, now: datetime) -> datetime:
    """Return when a visitor asked first; now if it was not remembered yet."""
    rows = GuardRequest.objects.using(router.db_for_write(GuardRequest))
    asked_at = rows.filter(key=key).values_list("asked_at", flat=True).first()
    if asked_at is not None and now - evidence.RETURN_WITHIN < asked_at <= now:
        return asked_at
    if asked_at is not None:
        rows.filter(key=key).update(asked_at=now)
    else:
        network = source.wide_network or source.network
        network = _digest(network) if network else ""
        row = GuardRequest(key=key, prefix=phones.prefix(number), network=network, asked_at=now)
        recent = rows.filter(asked_at__gt=now - timedelta(hours=1))
        is_alone = not network or recent.filter(network=network).count() < FROM_NETWORK
        if is_alone and recent.filter(prefix=row.prefix).count() < REQUESTS:
            rows.bulk_create([row], ignore_conflicts=True)
    return now


def _refusal(wait: timedelta) -> TooManyCalls:
    seconds = math.ceil(wait.total_seconds())
    return TooManyCalls(retry_after=seconds, scope=Refusal.Scope.GUARD)


def judge(
    scope: Scope,
    value: str,
    calls: list[Observed],
    seen: Seen,
    now: datetime,
    total: Rate | None,
) -> Narrowing | None:
    """Return how a range or an address is narrowed; None if it is not. Reads and writes nothing.

    Args:
        scope: range or address.
        value: which one.
        calls: its calls.
        seen: its decision, if there is one, and the spent budget.
        now: the time of the request.
        total: ``CALLS_TOTAL``.
    """
    strict = total is not None and seen.spent > total.number / STRICT_FROM
    decision = seen.decisions.get(scope)
    found, allowed = conclude(calls, now, is_range=scope == Scope.PREFIX, strict=strict)
    is_suspicious = found.unverified > allowed
    last = decision and decision.denied and decision.last_at > now - GuardDecision.QUIET
    if not (is_suspicious or last):
        return None
    if decision is None:
        decision = GuardDecision(scope=scope, value=value, denied=False)
    if not last:  # it begins anew
        decision.created_at, decision.denied = now, False
    rules = evidence.ADDRESS
    if scope == Scope.PREFIX:
        # The first people of a range pass at once, whatever strangers did before.
        rules = evidence.RANGE
        began = seconds_of(decision.created_at)
        calls = [call for call in calls if call.at >= began]
    elif decision.passed_at is None and calls:
        newest = max(call.at for call in calls)
        decision.passed_at = now + timedelta(seconds=newest - seconds_of(now))
    passed = evidence.weigh(calls, now, rules.memory, settled=True)
    drip = evidence.trickle(passed, rules)
    if not is_suspicious and not drip.wait:
        return None  # enough honest people since
    decision.unverified = round(found.unverified, 1)
    decision.honest = round(found.honest, 1)
    decision.allowed = round(allowed, 1)
    return Narrowing(decision, drip)


def conclude(
    calls: Iterable[Observed], now: datetime, *, is_range: bool, strict: bool
) -> tuple[Evidence, float]:
    """Return the evidence of calls, and the weight of uncompleted calls that chance explains."""
    rules: Strictness
    if is_range:
        rules = evidence.STRICT_RANGE if strict else evidence.RANGE
        found, before = evidence.weigh_with_past(calls, now, rules.half_life)
        share = evidence.usual_share(before)
    else:
        rules = evidence.STRICT_ADDRESS if strict else evidence.ADDRESS
        found = evidence.weigh(calls, now, rules.half_life)
        share = evidence.USUAL_SHARE
    return found, found.allowed(rules.floor, share, rules.deviations)


def _look(prefix: str, network: str, now: datetime, spent: int | None = None) -> Seen:
    """Read what is stored about a range and an address, in one query.

    Args:
        prefix, network: the range and the address; empty for none.
        now: time of the request.
        spent: the calls counted by ``CALLS_TOTAL``; None to read it.
    """
    values: dict[str, Parameter] = {
        name: value for name, value in (("prefix", prefix), ("network", network)) if value
    }
    names = tuple(values)
    values |= {"since": now - MEMORY, "today": now - DAY, "young": now - evidence.PATIENCE}
    total = conf.CALLS_TOTAL
    if spent is None and total is not None:
        values["spent_since"] = budget.spent_since(total, now)
    seen = Seen(spent=spent or 0)
    to_range, from_address = seen.calls[Scope.PREFIX], seen.calls[Scope.ADDRESS]
    completed = int(Call.Progress.COMPLETED)
    for row in _SEEN.rows(names, **values):
        match row[0]:
            case "call prefix":
                number, source, at, progress = _CALL(row)
                to_range.append(Observed(number, source, at, progress == completed))
            case "call network":
                number, _source, at, progress = _CALL(row)
                from_address.append(Observed(number, "", at, progress == completed))
            case "spent":
                seen.spent = Record._make(row).number
            case "decision prefix":
                seen.decisions[Scope.PREFIX] = _decision(Scope.PREFIX, prefix, row)
            case "decision network":
                seen.decisions[Scope.ADDRESS] = _decision(Scope.ADDRESS, network, row)
    return seen


_CALL = itemgetter(*map(Record._fields.index, ("number", "text", "seconds", "level")))
"""What a row says about a call; faster than a `Record`, and there are hundreds of them."""


def _decision(scope: Scope, value: str, row: tuple[Any, ...]) -> GuardDecision:
    record = Record._make(row)
    return GuardDecision(
        pk=record.number,
        scope=str(scope),
        value=value,
        mode=record.text,
        denied=bool(record.level),
        created_at=record.at,
        last_at=record.second or record.at,
        passed_at=record.third,
        returned_at=record.fourth,
        solved_at=record.fifth,
    )


def _select(names: tuple[str, ...], **values: Any) -> list[QuerySet[Any, Any]]:
    """Return what is known: the spent budget, decisions, and the newest calls of each part."""
    since, today, young = (values[name] for name in ("since", "today", "young"))
    parts = [budget.part(values["spent_since"])] if "spent_since" in values else []
    for name in names:
        scope = Scope.PREFIX if name == "prefix" else Scope.ADDRESS
        value = Unknown(values[name])
        # The first of all must have the types of the columns, so it is one with few rows.
        make = part if parts else first_part
        parts.append(
            make(
                f"decision {name}",
                GuardDecision.objects.filter(scope=scope, value=value),
                "created_at",
                text="mode",
                number="pk",
                level=Case(When(denied=True, then=1), default=0, output_field=Integer()),
                second="last_at",
                third="passed_at",
                fourth="returned_at",
                fifth="solved_at",
            )
        )
        calls = Call.objects.filter(is_test=False, **{name: value})
        calls = calls.exclude(status=Call.Status.REJECTED).order_by("-created_at")
        columns = {"text": "network", "number": "phone", "level": "progress"}
        rows = part(f"call {name}", calls, **columns, seconds=Seconds("created_at"))
        parts.append(rows.filter(created_at__gt=since, created_at__lte=today)[:SAMPLE])
        parts.append(rows.filter(created_at__gt=today, created_at__lte=young)[:SAMPLE])
        parts.append(rows.filter(created_at__gt=young)[: SAMPLE // 4])
    return parts


_SEEN = Prepared(Call, _select)


def _figures(decision: GuardDecision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in ("unverified", "honest", "allowed")}


def _record(narrowings: Iterable[Narrowing], now: datetime, *, denied: bool) -> None:
    """Store that requests were refused, or would have been."""
    for narrowing in narrowings:
        store(narrowing.decision, now, denied=denied, refused=1)


def _tell(narrowings: Iterable[Narrowing], now: datetime) -> None:
    """Create the rows of what was just narrowed."""
    for narrowing in narrowings:
        if not narrowing.decision.denied or narrowing.decision.pk is None:
            store(narrowing.decision, now, denied=True, refused=0)


def store(decision: GuardDecision, now: datetime, *, denied: bool, refused: int) -> None:
    """Write a decision down; the first time on a day, tell who wants to know.

    Args:
        decision: unsaved, or as it was read; what it says about now may have changed.
        now: the time of the request.
        denied: whether it is narrowed from now on.
        refused: the number of requests that it has just refused.
    """
    today = now.astimezone(UTC).date()
    values = {**_figures(decision), "denied": denied, "last_at": now}
    if not decision.denied and (denied or decision.last_at <= now - GuardDecision.QUIET):
        values |= {"created_at": decision.created_at}  # it has just begun
    decision.denied = denied
    using = router.db_for_write(GuardDecision)
    rows = GuardDecision.objects.using(using)
    row = rows.filter(scope=decision.scope, value=decision.value)
    if decision.pk is None:
        try:
            with transaction.atomic(using=using):
                decision.last_at, decision.count, decision.told_on = now, refused, today
                decision.save(force_insert=True)
        except IntegrityError:  # somebody else was faster
            decision.pk = row.values_list("pk", flat=True).first()
        else:
            _announce(decision)
            return
    row.update(**values, count=F("count") + refused)
    if row.filter(Q(told_on=None) | ~Q(told_on=today)).update(told_on=today):
        decision.count, decision.passed = row.values_list("count", "passed").get()
        _announce(decision)


def _announce(decision: GuardDecision) -> None:
    logger.warning(
        "The fraud guard %s calls: %s %s has %.1f that nobody completed, %.1f are usual.",
        "narrows" if decision.denied else "suspects",
        decision.scope,
        decision.value,
        decision.unverified,
        decision.allowed,
    )
    signals.fraud_suspected.send_robust(GuardDecision, decision=decision)
