"""Limits on calls and on wrong codes.

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
"""How long a number is locked after ``MAX_FAILURES`` wrong codes in a row."""

LONGEST_WAIT = timedelta(days=1)
"""The longest time that a number is locked."""

WIDE_FACTOR = 5
"""An IPv6 /48 has this many times the limit of an address."""

Scope = Refusal.Scope


class Window(NamedTuple):
    """A sliding window: its scope, limit and length, and the rows that it counts."""

    scope: Refusal.Scope
    limit: int
    length: timedelta
    rows: QuerySet[Any]

    def used(self) -> Coalesce:
        """Return an expression for the number of rows in the window."""
        one = self.rows.order_by().annotate(_one=Value(1)).values("_one")
        return Coalesce(Subquery(one.annotate(_number=Count("pk")).values("_number")), 0)

    def filled_at(self) -> Subquery:
        """Return an expression for the time of the row that has to leave before there is room."""
        newest = self.rows.order_by("-created_at").values("created_at")
        return Subquery(newest[self.limit - 1 : self.limit])


class Reservation(NamedTuple):
    """The result of `reserve`.

    Attributes:
        before: time of the previous call to the number, for `give_back`.
        spent: calls counted by ``CALLS_TOTAL``, with this one; None without that limit.
    """

    before: datetime | None
    spent: int | None


def reserve(phone: Phone, source: Source, now: datetime) -> Reservation:
    """Count a call in all limits before it is placed.

    Call it in the transaction that creates the call row. Other calls to the number wait here until
    that transaction ends.

    Args:
        phone: the phone; saved if it is new.
        source: the source of the request.
        now: time of the call.

    Raises:
        Cooldown: the number was just called.
        TooManyCalls: the number is locked, or a limit is reached.
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
    """Undo `reserve` for a call that was not placed.

    This resets the cooldown. The windows do not count rejected calls, except those of the address.
    """
    Phone.objects.filter(pk=phone.pk, last_called_at=taken_at).update(last_called_at=before)
    phone.last_called_at = before


def retry_after(phone: Phone, source: Source, now: datetime) -> int:
    """Return the seconds until this source can call the number again, at least 1."""
    moments = [now, phone.free_at or now]
    windows = list(_windows(phone, source, now))
    filled = _select(phone, *(window.filled_at() for window in windows))
    moments += [at + w.length for w, at in zip(windows, filled, strict=True) if at is not None]
    return max(1, math.ceil((max(moments) - now).total_seconds()))


def is_half_used(number: str, source: Source, now: datetime) -> bool:
    """Return True if a limit on addresses, ranges or the site is more than half used.

    Args:
        number: the number that is to be called, in E.164.
        source: the source of the request.
        now: the moment of the request.
    """
    windows = _wide_windows(phones.prefix(number), source, now)
    # No more rows are counted than decide it.
    return any(w.rows[: w.limit // 2 + 1].count() > w.limit / 2 for w in windows)


def failures(source: Source, now: datetime) -> dict[str, Any]:
    """Return annotations that count the wrong codes of a source, by window."""
    windows = _failure_windows(source, now)
    return {f"failures_{place}": window.used() for place, window in enumerate(windows)}


def check_failures(call: Call, source: Source, now: datetime) -> None:
    """Raise an error if an address has entered too many wrong codes, over all numbers.

    Args:
        call: a call annotated with `failures`.
        source: the source of the request.
        now: time of the attempt.

    Raises:
        TooManyAttempts: ``FAILURES_PER_IP`` is reached.
    """
    windows = list(_failure_windows(source, now))
    for place, window in enumerate(windows):
        if getattr(call, f"failures_{place}") >= window.limit:
            filled = _select(call.phone, *(window.filled_at() for window in windows))
            free = [at + w.length for w, at in zip(windows, filled, strict=True) if at]
            seconds = (max(free, default=now) - now).total_seconds()
            raise TooManyAttempts(retry_after=math.ceil(seconds), scope=Scope.ADDRESS)


def count_failure(phone: Phone, now: datetime) -> None:
    """Count a wrong code for a number, and lock it from ``MAX_FAILURES`` in a row.

    The database computes the lock from its own count, so that no concurrent failure is lost
    (NIST SP 800-63B-4, section 3.2.2).
    """
    waits = []
    wait, failures = FIRST_WAIT, conf.MAX_FAILURES
    while wait < LONGEST_WAIT:
        waits.append(When(failures=failures - 1, then=Value(now + wait)))
        wait, failures = wait * 2, failures + 1
    waits.append(When(failures__gte=failures - 1, then=Value(now + LONGEST_WAIT)))
    # Set the count last: in MySQL, conditions see values assigned earlier in the statement.
    Phone.objects.filter(pk=phone.pk).update(
        waits_until=Case(*waits, default=F("waits_until")), failures=F("failures") + 1
    )


# Helpers.


def _take_cooldown(phone: Phone, source: Source, now: datetime) -> datetime | None:
    """Set the time of the last call, if the number is free; return the previous time."""
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
    if kept is None:  # deleted in the meantime
        phone.pk = None
        _insert(phone, now)
        return None
    waits = kept.waits_until is not None and kept.waits_until > now
    refusal = TooManyCalls if waits else Cooldown
    raise refusal(retry_after=retry_after(kept, source, now), scope=Scope.NUMBER)


def _insert(phone: Phone, now: datetime) -> bool:
    """Insert a new phone; return False if another request inserted it first."""
    phone.last_called_at = now
    try:
        with transaction.atomic(using=phone._state.db):
            phone.save(force_insert=True)
    except IntegrityError:
        phone.pk = Phone.objects.values_list("pk", flat=True).get(number=phone.number)
        return False
    return True


def _windows(phone: Phone, source: Source, now: datetime) -> Iterator[Window]:
    """Yield the windows that count a call to a number."""
    rate = conf.CALLS_PER_PHONE
    calls = _placed(rate, now).filter(phone=phone.pk)
    yield Window(Scope.NUMBER, rate.number, rate.window, calls)
    if source.network:
        # Half, rounded up, so that one stranger cannot use up the limit of a number.
        near = calls.filter(network=source.network)
        yield Window(Scope.NUMBER, math.ceil(rate.number / 2), rate.window, near)
    yield from _wide_windows(phones.prefix(phone.number), source, now)


def _wide_windows(prefix: str, source: Source, now: datetime) -> Iterator[Window]:
    if rate := conf.CALLS_PER_IP:
        # Include rejected calls: an address that causes many of them must be stopped.
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
    """Return the calls in a window that were placed or may have been."""
    calls = Call.objects.filter(created_at__gt=now - rate.window)
    return calls.exclude(status=Call.Status.REJECTED)


def _select(phone: Phone, *expressions: Any) -> tuple[Any, ...]:
    """Evaluate expressions in a single query."""
    names = {f"_{place}": expression for place, expression in enumerate(expressions)}
    if not names:
        return ()
    rows = Phone.objects.annotate(**names).values_list(*names).filter(pk=phone.pk)
    return rows.first() or (None,) * len(names)  # deleted in the meantime
