"""Limits on calls and on wrong codes.

The row of a number serialises what happens to it: a start takes the cooldown by a conditional
``UPDATE`` of that row, and counts its windows in the same short transaction, so that any number of
simultaneous starts sees each other. The wide limits are counted in the same statement; they can be
overshot by the requests in flight. No limit lives in a cache, none is lost by a rollback.

No statement reads more rows than the limit allows: a window is full if its limit-th newest row
exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import router
from django.db.models import Case, DateTimeField, F, Q, QuerySet, Subquery, Value, When

from .. import phones
from ..conf import Rate, conf
from ..exceptions import Cooldown, TooManyAttempts, TooManyCalls
from ..models import Attempt, Call, Phone, Refusal
from ..prepared.queries import Prepared
from ..prepared.records import Record, Unknown, first_part, part
from ..prepared.writes import PreparedInsert, PreparedUpdate, Write
from . import budget
from .visitors import Source

FIRST_WAIT = timedelta(hours=1)
"""How long a number is locked after ``MAX_FAILURES`` wrong codes in a row."""

LONGEST_WAIT = timedelta(days=1)
"""The longest time that a number is locked."""

WAITS = (*(FIRST_WAIT * 2**n for n in range(5)), LONGEST_WAIT)
"""The wait doubles with each wrong code more."""

WIDE_FACTOR = 5
"""An IPv6 /48 has this many times the limit of an address."""

SHORT_COOLDOWN = 10
"""Seconds of ``COOLDOWN`` below which other backends may still try for an earlier call."""

Scope = Refusal.Scope


class Window(NamedTuple):
    """A sliding window over calls or wrong codes.

    Attributes:
        scope: the limit that it belongs to.
        limit: the number of rows that fill it.
        length: how far it reaches back.
        by: the columns in which its rows have the value of the request.
    """

    scope: Refusal.Scope
    limit: int
    length: timedelta
    by: tuple[str, ...]


class Usage(NamedTuple):
    """How far the limits are used.

    Attributes:
        full: the full windows, and for each the time when the next row fits.
        spent: number of calls counted by ``CALLS_TOTAL``; None without that limit.
        called_at: when the number was called last, if that was read in the same query.
    """

    full: list[tuple[Window, datetime]]
    spent: int | None = None
    called_at: datetime | None = None


class Reservation(NamedTuple):
    """The result of `reserve`.

    Attributes:
        at: time of the call.
        before: time of the previous call to the number.
        spent: calls counted by ``CALLS_TOTAL``, with this one; None without that limit.
    """

    at: datetime
    before: datetime | None
    spent: int | None


def reserve(phone: Phone, source: Source, now: datetime, usage: Usage | None = None) -> Reservation:
    """Check all limits before a call is placed, and start the cooldown of the number.

    Call it in the transaction that creates the call row, and `count_call` after that. Other calls
    to the number wait here until that transaction ends.

    Args:
        phone: the phone; saved if it is new.
        source: the source of the request.
        now: time of the call.
        usage: how far the limits were used when `phone` was read, in the same query. It is read
            again if the number was called since. None to read it here.

    Raises:
        Cooldown: the number was just called.
        TooManyCalls: the number is locked, or a limit is reached.
    """
    if usage is not None and _is_lasting() and _take_unchanged(phone, source, now, usage):
        before = usage.called_at
    else:
        before = _take_cooldown(phone, source, now)
        usage = _usage(windows_of(source), phone, source, now, conf.CALLS_TOTAL)
    if scopes := _full_scopes(usage, source):
        phone.last_called_at = before
        raise TooManyCalls(retry_after=retry_after(phone, source, now), scope=scopes[0])
    return _reserved(usage, before, now)


def claim(
    phone: Phone, source: Source, now: datetime, usage: Usage
) -> tuple[Write, Reservation] | None:
    """Return the statement that starts the cooldown of a number, if no limit is reached.

    It writes nothing if the number was called since it was read, or is not free; `reserve` then
    tells why.

    Args:
        phone, source, now, usage: see `reserve`.

    Returns:
        the statement and the result of `reserve`; None if only `reserve` can tell.
    """
    if not _is_lasting() or _full_scopes(usage, source):
        return None
    free_at = phone.free_at(is_known=source.is_known)
    if free_at is not None and free_at > now:
        return None
    if phone.pk is None:
        phone.last_called_at = now
        write = _INSERT.bind(phone)
    else:
        write = _taking(phone, source, now, since=usage)
        phone.last_called_at = now
    return write, _reserved(usage, usage.called_at, now)


def check(phone: Phone, source: Source, now: datetime, usage: Usage) -> None:
    """Raise the error that `reserve` would raise now. Nothing is taken.

    Args:
        phone: the phone; not saved if it is new.
        source: the source of the request.
        now: time of the request.
        usage: how far the limits are used.

    Raises:
        Cooldown, TooManyCalls: see `reserve`.
    """
    wait = _seconds(phone, usage, source, now)
    free_at = phone.free_at(is_known=source.is_known)
    if free_at is not None and free_at > now:
        raise _number_refusal(phone, source, now)(retry_after=wait, scope=Scope.NUMBER)
    if scopes := _full_scopes(usage, source):
        raise TooManyCalls(retry_after=wait, scope=scopes[0])


def prepare(now: datetime) -> None:
    """Prepare `count_call`, before the transaction begins."""
    budget.make_rows(now)


def count_call(call: Call) -> None:
    """Count a call in ``CALLS_TOTAL``, as the last write of the transaction that creates its row.

    The other limits count the row itself.
    """
    budget.count(call.verification_id, call.created_at)


def count_write(call: Call) -> Write | None:
    """Return the statement of `count_call`; None if there is nothing to count."""
    return budget.count_write(call.verification_id, call.created_at)


def give_back(call: Call, reservation: Reservation) -> None:
    """Undo `reserve` and `count_call` for a call that was not placed.

    The windows do not count rejected calls, except those of the address. Make it the last write of
    its transaction.
    """
    taken = Phone.objects.filter(pk=call.phone_id, last_called_at=reservation.at)
    taken.update(last_called_at=reservation.before)
    call.phone.last_called_at = reservation.before
    budget.count(call.verification_id, reservation.at, calls=-1)


def retry_after(phone: Phone, source: Source, now: datetime) -> int:
    """Return the seconds until this source can call the number again, at least 1."""
    usage = _usage(windows_of(source), phone, source, now, conf.CALLS_TOTAL)
    return _seconds(phone, usage, source, now)


def is_half_used(number: str, source: Source, now: datetime) -> bool:
    """Return True if a limit on addresses, ranges or the site is more than half used.

    Args:
        number: the number that is to be called, in E.164.
        source: the source of the request.
        now: the moment of the request.
    """
    total = conf.CALLS_TOTAL
    half = [w._replace(limit=w.limit // 2 + 1) for w in _wide_windows(source)]
    usage = _usage(half, Phone(number=number), source, now, total)
    return bool(usage.full) or bool(total and usage.spent and usage.spent > total.number / 2)


def failures(source: Source, now: datetime) -> dict[str, Any]:
    """Return the arguments of `Call.newest` that look up the wrong codes of an address."""
    windows = list(_failure_windows(source))
    return {
        "beside": _failures,
        "options": tuple(map(shape, windows)),
        "values": values(windows, source._asdict(), now),
    }


def check_failures(call: Call, source: Source, now: datetime) -> None:
    """Raise an error if an address has entered too many wrong codes, over all numbers.

    Args:
        call: the result of `Call.newest` with `failures`.
        source: the source of the request.
        now: time of the attempt.

    Raises:
        TooManyAttempts: ``FAILURES_PER_IP`` is reached.
    """
    if source.is_known:  # strangers who share the address cannot use up their attempts
        return
    windows = _failure_windows(source)
    ends = [at + w.length for w, at in zip(windows, call.beside, strict=True) if at is not None]
    if ends:
        seconds = (max(ends) - now).total_seconds()
        raise TooManyAttempts(retry_after=math.ceil(seconds), scope=Scope.ADDRESS)


def failure_write(phone: Phone, now: datetime, *, is_known: bool = False) -> Write:
    """Return the statement that counts a wrong code, and locks the number from ``MAX_FAILURES``.

    The owner and devices that verified it have a count and a lock of their own (`is_known`).

    The database computes the lock from its own count, so that no concurrent failure is lost
    (NIST SP 800-63B-4, section 3.2.2).
    """
    ends = {f"end{place}": now + wait for place, wait in enumerate(WAITS)}
    return _FAIL.bind(conf.MAX_FAILURES, is_known, pk=phone.pk, **ends)


def _fail(failures: int, is_known: bool, *, pk: Any, **ends: Any) -> tuple[Any, dict[str, Any]]:
    of = "known_" if is_known else ""
    count, lock = f"{of}failures", f"{of}waits_until"
    last = len(WAITS) - 1
    waits = [
        When(
            **{f"{count}__gte" if place == last else count: failures - 1 + place},
            then=Value(ends[f"end{place}"], output_field=DateTimeField()),
        )
        for place in range(len(WAITS))
    ]
    # Set the count last: in MySQL, conditions see values assigned earlier in the statement.
    changes = {lock: Case(*waits, default=F(lock)), count: F(count) + 1}
    return Phone.objects.filter(pk=pk), changes


_FAIL = PreparedUpdate(Phone, _fail)


# Helpers.


def _is_lasting() -> bool:
    """Return True if calls to a number change its row, so that its usage is known from then on.

    Otherwise, a call can be replaced by another one, which leaves the time as it is.
    """
    return conf.COOLDOWN >= SHORT_COOLDOWN and conf.DISPATCH != "task"


def _reserved(usage: Usage, before: datetime | None, now: datetime) -> Reservation:
    return Reservation(now, before, None if usage.spent is None else usage.spent + 1)


def _full_scopes(usage: Usage, source: Source) -> list[Refusal.Scope]:
    scopes = [window.scope for window, _ in usage.full]
    if usage.spent is not None and usage.spent >= budget.limit(is_known=source.is_known):
        scopes.append(Scope.TOTAL)
    return scopes


def _seconds(phone: Phone, usage: Usage, source: Source, now: datetime) -> int:
    free_at = phone.free_at(is_known=source.is_known)
    ends = [now, free_at or now, *(at for _, at in usage.full)]
    if usage.spent is not None:
        ends.append(budget.free_at(now, usage.spent, is_known=source.is_known) or now)
    return max(1, math.ceil((max(ends) - now).total_seconds()))


def _number_refusal(
    phone: Phone, source: Source, now: datetime
) -> type[Cooldown] | type[TooManyCalls]:
    """Return the error for a number that was just called, or that is locked."""
    until = phone.locked_until(is_known=source.is_known)
    return TooManyCalls if until is not None and until > now else Cooldown


def _take_unchanged(phone: Phone, source: Source, now: datetime, usage: Usage) -> bool:
    """Set the time of the last call, if the number is free and was not called since it was read.

    Each call changes that time, so what was read about the calls of the number is still true.
    """
    if phone.pk is None:
        return _insert(phone, now)
    return _take(phone, source, now, since=usage)


def _take_cooldown(phone: Phone, source: Source, now: datetime) -> datetime | None:
    """Set the time of the last call, if the number is free; return the previous time."""
    if phone.pk is None and _insert(phone, now):
        return None
    before = phone.last_called_at
    if _take(phone, source, now):
        return before
    kept = Phone.objects.using(router.db_for_write(Phone)).filter(number=phone.number).first()
    if kept is None:  # deleted in the meantime: it becomes a new one
        vars(phone).update(vars(Phone(number=phone.number)))
        return _take_cooldown(phone, source, now)
    refusal = _number_refusal(kept, source, now)
    raise refusal(retry_after=retry_after(kept, source, now), scope=Scope.NUMBER)


def _take(phone: Phone, source: Source, now: datetime, *, since: Usage | None = None) -> bool:
    """Set the time of the last call, if the number is free; return False if it is not.

    Args:
        phone, source, now, since: see `_taking`.
    """
    if not _taking(phone, source, now, since=since).execute():
        return False
    phone.last_called_at = now
    return True


def _taking(phone: Phone, source: Source, now: datetime, *, since: Usage | None = None) -> Write:
    """Return the statement that sets the time of the last call, if the number is free.

    Args:
        phone: the phone, which is saved.
        source: the source of the request.
        now: time of the call.
        since: only if the number was not called since this was read; None for any time.
    """
    cooldown = timedelta(seconds=conf.COOLDOWN)
    times: dict[str, datetime | None]
    times = {"now": now, "cooled": now - cooldown, "ahead": now + cooldown}
    if since is not None:
        times["seen"] = since.called_at
    options = bool(cooldown), source.is_known, since is not None
    return _TAKE.bind(*options, pk=phone.pk, **times)


def _taken(
    has_cooldown: bool,
    is_known: bool,
    is_unchanged: bool,
    *,
    pk: Any,
    now: Any,
    cooled: Any,
    ahead: Any,
    seen: Any = None,
) -> tuple[Any, dict[str, Any]]:
    lock = "known_waits_until" if is_known else "waits_until"
    free = Q(**{lock: None}) | Q(**{f"{lock}__lte": now})
    if has_cooldown:
        # The time of a call is ahead if the clock was set back since.
        cool = Q(last_called_at__lte=cooled) | Q(last_called_at__gt=ahead)
        free &= Q(last_called_at=None) | cool
    if is_unchanged:
        free &= Q(last_called_at=seen)
    return Phone.objects.filter(free, pk=pk), {"last_called_at": now}


_TAKE = PreparedUpdate(Phone, _taken)


def _insert(phone: Phone, now: datetime) -> bool:
    """Insert a new phone; return False if another request inserted it first."""
    phone.last_called_at = now
    if _INSERT.execute(phone):
        return True
    row = Phone.objects.using(router.db_for_write(Phone)).values_list("pk", "last_called_at")
    phone.pk, phone.last_called_at = row.get(number=phone.number)
    return False


_INSERT = PreparedInsert(Phone, ignore_conflicts=True)


def shape(window: Window) -> tuple[int, tuple[str, ...]]:
    """Return what the text of a query depends on: the limit and the columns of a window."""
    return window.limit, window.by


def windows_of(source: Source) -> Iterator[Window]:
    """Yield the windows that count a call to a number."""
    ours = ("phone", "is_known")
    if source.is_known:
        rate = conf.KNOWN_CALLS_PER_PHONE
        yield Window(Scope.NUMBER, rate.number, rate.window, ours)
        return
    rate = conf.CALLS_PER_PHONE
    yield Window(Scope.NUMBER, rate.number, rate.window, ours)
    if source.network:
        # Half, rounded up, so that one stranger cannot use up the limit of a number.
        yield Window(Scope.NUMBER, math.ceil(rate.number / 2), rate.window, (*ours, "network"))
    yield from _wide_windows(source)


def _wide_windows(source: Source) -> Iterator[Window]:
    if rate := conf.CALLS_PER_IP:
        for factor, name in _addresses(source):
            yield Window(Scope.ADDRESS, rate.number * factor, rate.window, (name,))
    if rate := conf.CALLS_PER_PREFIX:
        yield Window(Scope.PREFIX, rate.number, rate.window, ("prefix",))


def _failure_windows(source: Source) -> Iterator[Window]:
    if rate := conf.FAILURES_PER_IP:
        for factor, name in _addresses(source):
            yield Window(Scope.ADDRESS, rate.number * factor, rate.window, ("attempts", name))


def _addresses(source: Source) -> Iterator[tuple[int, str]]:
    if source.network:
        yield 1, "network"
    if source.wide_network:
        yield WIDE_FACTOR, "wide_network"


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


def _last_row(
    place: int, window: tuple[int, tuple[str, ...]], values: Mapping[str, Any]
) -> QuerySet[Any]:
    """Return a queryset of the row that fills a window, if it is full."""
    limit, by = window
    rows = _rows(by, values[f"since{place}"], values)
    return rows.order_by("-created_at")[limit - 1 : limit]


def _failures(*windows: tuple[int, tuple[str, ...]], **values: Any) -> list[Any]:
    return [
        Subquery(_last_row(place, window, values).values("created_at"))
        for place, window in enumerate(windows)
    ]


def parts(
    windows: Iterable[tuple[int, tuple[str, ...]]], values: Mapping[str, Any]
) -> list[QuerySet[Any, Any]]:
    """Return the querysets that `read` needs.

    There is one for each window, of the row that has to leave before there is room, and the spent
    budget.

    Args:
        windows: limit and columns of each window.
        values: values or placeholders.
    """
    found = [budget.part(since)] if (since := values.get("spent_since")) else []
    for place, window in enumerate(windows):
        row = _last_row(place, window, values)
        make = part if found else first_part
        found.append(make("window", row, "created_at", number=Value(place)))
    return found


def read(windows: Iterable[Window], records: Iterable[Record], total: Rate | None) -> Usage:
    """Return what the rows of `parts` say; others are ignored."""
    windows, records = list(windows), list(records)
    full = sorted((record.number, record.at) for record in records if record.of == "window")
    return Usage(
        [(windows[place], at + windows[place].length) for place, at in full],
        None if total is None else budget.read(records),
    )


_USAGE = Prepared(Call, lambda *windows, **values: parts(windows, values))


def values(windows: Iterable[Window], row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the values that the queries of windows need.

    Args:
        windows: the windows.
        row: the columns of the request.
        now: time of the request.
    """
    values = {name: row[name] for window in windows for name in window.by if name in row}
    return values | {f"since{n}": now - window.length for n, window in enumerate(windows)}


def _usage(
    windows: Iterable[Window],
    phone: Phone,
    source: Source,
    now: datetime,
    total: Rate | None = None,
) -> Usage:
    """Find the full windows, and what is spent of a ``CALLS_TOTAL``, in a single query."""
    windows = list(windows)
    if not windows and total is None:
        return Usage([])
    row = {"phone": phone.pk, "prefix": phones.prefix(phone.number), **source._asdict()}
    times = {} if total is None else {"spent_since": budget.spent_since(total, now)}
    rows = _USAGE.rows(*map(shape, windows), **values(windows, row, now), **times)
    return read(windows, map(Record._make, rows), total)
