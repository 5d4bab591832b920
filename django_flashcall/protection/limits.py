"""May this call be placed, may this guess be made, and when is the next one possible?

The row of a number serialises what happens to it: a start takes the cooldown by a conditional
``UPDATE`` of that row, and counts its windows in the same short transaction, so that any number of
simultaneous starts sees each other. The wide limits are counted in the same statement; they can be
overshot by the requests in flight. No limit lives in a cache, none is lost by a rollback.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Case, Count, F, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce

from .. import phones
from ..conf import Rate, conf
from ..exceptions import Cooldown, TooManyAttempts, TooManyCalls
from ..models import Attempt, Call, Phone, Refusal
from .visitors import Source

FIRST_WAIT = timedelta(hours=1)
"""How long a number waits after ``MAX_FAILURES`` wrong codes in a row."""

LONGEST_WAIT = timedelta(days=1)
"""What the doubled waits end at."""

WIDE_FACTOR = 5
"""How many times the rate of an address an IPv6 /48 has."""

Scope = Refusal.Scope


class Window(NamedTuple):
    """A sliding window: what it is for, how many fit into it, how long it is, what counts."""

    scope: Refusal.Scope
    limit: int
    length: timedelta
    rows: QuerySet[Any]

    def used(self) -> Coalesce:
        """The number of rows in it, to be selected together with others."""
        one = self.rows.order_by().annotate(_one=Value(1)).values("_one")
        return Coalesce(Subquery(one.annotate(_number=Count("pk")).values("_number")), 0)

    def filled_at(self) -> Subquery:
        """When the row came that fills it; it is free again when that has left it."""
        newest = self.rows.order_by("-created_at").values("created_at")
        return Subquery(newest[self.limit - 1 : self.limit])


class Reservation(NamedTuple):
    """What `reserve` took.

    Attributes:
        before: when the number was called before, for `give_back`.
        spent: calls of ``CALLS_TOTAL`` used with this one, None where there is no budget.
    """

    before: datetime | None
    spent: int | None


def reserve(phone: Phone, source: Source, now: datetime) -> Reservation:
    """Take a number's cooldown and a place in every window for one call, before money is spent.

    Call it in the transaction that creates the row of the call: until that ends, everybody else who
    wants to call the number waits here.

    Args:
        phone: the row of the number; one that is not saved yet is saved.
        source: where the request comes from.
        now: the moment of the call.

    Raises:
        Cooldown: the number was called a moment ago.
        TooManyCalls: the number waits, or a limit is used up.
    """
    before = _take_cooldown(phone, source, now)
    windows = list(_windows(phone, source, now))
    used = _select(phone, *(window.used() for window in windows))
    for window, number in zip(windows, used, strict=True):
        if number >= window.limit:
            phone.last_called_at = before
            raise TooManyCalls(retry_after=retry_after(phone, source, now), scope=window.scope)
    totals = [n for w, n in zip(windows, used, strict=True) if w.scope == Scope.TOTAL]
    return Reservation(before, totals[0] + 1 if totals else None)


def give_back(phone: Phone, taken_at: datetime, before: datetime | None) -> None:
    """Undo what `reserve` took from the number: the call was certainly not placed.

    The windows need no more: they leave rejected calls out, but for those of the address.
    """
    Phone.objects.filter(pk=phone.pk, last_called_at=taken_at).update(last_called_at=before)
    phone.last_called_at = before


def retry_after(phone: Phone, source: Source, now: datetime) -> int:
    """Return the seconds until the next call to a number from there is permitted, at least 1."""
    moments = [now, phone.free_at or now]
    windows = list(_windows(phone, source, now))
    filled = _select(phone, *(window.filled_at() for window in windows))
    moments += [at + w.length for w, at in zip(windows, filled, strict=True) if at is not None]
    return max(1, math.ceil((max(moments) - now).total_seconds()))


def is_half_used(number: str, source: Source, now: datetime) -> bool:
    """Tell whether a wide limit is more than half used, so that a person should prove to be one.

    Args:
        number: the number that is to be called, in E.164.
        source: where the request comes from.
        now: the moment of the request.
    """
    windows = _wide_windows(phones.prefix(number), source, now)
    # No more rows are counted than decide it.
    return any(w.rows[: w.limit // 2 + 1].count() > w.limit / 2 for w in windows)


def failures(source: Source, now: datetime) -> dict[str, Any]:
    """Return what to select beside a guess: how often the visitor guessed wrong, by window."""
    windows = _failure_windows(source, now)
    return {f"failures_{place}": window.used() for place, window in enumerate(windows)}


def check_failures(call: Call, source: Source, now: datetime) -> None:
    """Refuse a guess from an address that guessed wrong too often, across all numbers.

    Args:
        call: a row that was selected with `failures`.
        source: where the guess comes from.
        now: the moment of the guess.

    Raises:
        TooManyAttempts: ``FAILURES_PER_IP`` is used up.
    """
    windows = list(_failure_windows(source, now))
    for place, window in enumerate(windows):
        if getattr(call, f"failures_{place}") >= window.limit:
            filled = _select(call.phone, *(window.filled_at() for window in windows))
            free = [at + w.length for w, at in zip(windows, filled, strict=True) if at]
            seconds = (max(free, default=now) - now).total_seconds()
            raise TooManyAttempts(retry_after=math.ceil(seconds), scope=Scope.ADDRESS)


def count_failure(phone: Phone, now: datetime) -> None:
    """Count a wrong code for a number, and make it wait from ``MAX_FAILURES`` in a row on.

    The wait is chosen by the database from the count it holds, so that no simultaneous failure is
    lost (NIST SP 800-63B-4, section 3.2.2).
    """
    waits = []
    wait, failures = FIRST_WAIT, conf.MAX_FAILURES
    while wait < LONGEST_WAIT:
        waits.append(When(failures=failures - 1, then=Value(now + wait)))
        wait, failures = wait * 2, failures + 1
    waits.append(When(failures__gte=failures - 1, then=Value(now + LONGEST_WAIT)))
    # The count last: MySQL's conditions see what the same statement has assigned before them.
    Phone.objects.filter(pk=phone.pk).update(
        waits_until=Case(*waits, default=F("waits_until")), failures=F("failures") + 1
    )


# What the functions above are made of.


def _take_cooldown(phone: Phone, source: Source, now: datetime) -> datetime | None:
    """Mark the number as called now, if it may be; return when it was called before."""
    before = phone.last_called_at
    if phone.pk is None and _insert(phone, now):
        return None
    free = Q(waits_until=None) | Q(waits_until__lte=now)
    if cooldown := conf.COOLDOWN:
        cooled = Q(last_called_at__lte=now - timedelta(seconds=cooldown))
        free &= Q(last_called_at=None) | cooled
    if Phone.objects.filter(free, pk=phone.pk).update(last_called_at=now):
        phone.last_called_at = now
        return before
    kept = Phone.objects.filter(number=phone.number).first()
    if kept is None:  # erased since it was read
        phone.pk = None
        _insert(phone, now)
        return None
    waits = kept.waits_until is not None and kept.waits_until > now
    refusal = TooManyCalls if waits else Cooldown
    raise refusal(retry_after=retry_after(kept, source, now), scope=Scope.NUMBER)


def _insert(phone: Phone, now: datetime) -> bool:
    """Save a number seen for the first time as called now; False if another start was faster."""
    phone.last_called_at = now
    try:
        with transaction.atomic(using=phone._state.db):
            phone.save(force_insert=True)
    except IntegrityError:
        phone.pk = Phone.objects.values_list("pk", flat=True).get(number=phone.number)
        return False
    return True


def _windows(phone: Phone, source: Source, now: datetime) -> Iterator[Window]:
    """Every window that a call to a number takes a place in."""
    rate = conf.CALLS_PER_PHONE
    calls = _placed(rate, now).filter(phone=phone.pk)
    yield Window(Scope.NUMBER, rate.number, rate.window, calls)
    if source.network:
        # Half of them, rounded up: one stranger cannot use up a number's day.
        near = calls.filter(network=source.network)
        yield Window(Scope.NUMBER, math.ceil(rate.number / 2), rate.window, near)
    yield from _wide_windows(phones.prefix(phone.number), source, now)


def _wide_windows(prefix: str, source: Source, now: datetime) -> Iterator[Window]:
    if rate := conf.CALLS_PER_IP:
        # Rejected calls count: an address that makes them up is to be stopped.
        calls = Call.objects.filter(
            created_at__gt=now - rate.window, verification__verified_at=None
        )
        for factor, name, value in _addresses(source):
            rows = calls.filter(**{name: value})
            yield Window(Scope.ADDRESS, rate.number * factor, rate.window, rows)
    if rate := conf.CALLS_PER_PREFIX:
        rows = _placed(rate, now).filter(prefix=prefix, verification__verified_at=None)
        yield Window(Scope.PREFIX, rate.number, rate.window, rows)
    if rate := conf.CALLS_TOTAL:
        yield Window(Scope.TOTAL, rate.number, rate.window, _placed(rate, now))


def _failure_windows(source: Source, now: datetime) -> Iterator[Window]:
    if rate := conf.FAILURES_PER_IP:
        wrong = Attempt.objects.filter(
            right=False, created_at__gt=now - rate.window, verification__verified_at=None
        )
        for factor, name, value in _addresses(source):
            rows = wrong.filter(**{name: value})
            yield Window(Scope.ADDRESS, rate.number * factor, rate.window, rows)


def _addresses(source: Source) -> Iterator[tuple[int, str, str]]:
    if source.network:
        yield 1, "network", source.network
    if source.wide_network:
        yield WIDE_FACTOR, "wide_network", source.wide_network


def _placed(rate: Rate, now: datetime) -> QuerySet[Call]:
    """The calls within a window that were placed, or may have been."""
    calls = Call.objects.filter(created_at__gt=now - rate.window)
    return calls.exclude(status=Call.Status.REJECTED)


def _select(phone: Phone, *expressions: Any) -> tuple[Any, ...]:
    """Evaluate expressions in one statement."""
    names = {f"_{place}": expression for place, expression in enumerate(expressions)}
    if not names:
        return ()
    rows = Phone.objects.annotate(**names).values_list(*names).filter(pk=phone.pk)
    return rows.first() or (None,) * len(names)  # none: erased meanwhile
