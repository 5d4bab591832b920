"""Limits on calls.

The row of a number serialises what happens to it: a start takes the cooldown by a conditional
``UPDATE`` of that row, and counts its windows in the same short transaction, so that any number of
simultaneous starts sees each other. The wide limits are counted in the same statement; they can be
overshot by the requests in flight. No limit lives in a cache, none is lost by a rollback.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import Error, router
from django.db.models import F, Q, QuerySet, Value
from django.utils import timezone

from .. import phones
from ..conf import Rate, conf
from ..exceptions import Cooldown, TooManyCalls
from ..models import Call, Phone, Refusal
from ..prepared.queries import Prepared
from ..prepared.records import Record, first_part, part
from ..prepared.writes import PreparedInsert, PreparedUpdate, Write
from . import budget
from .visitors import Source
from .windows import Window, addresses, last_row, shape, share_of_address, values

SHORT_COOLDOWN = 10
"""Below so many seconds of ``COOLDOWN``, an earlier call may still be replaced, or wait for the
database."""

Scope = Refusal.Scope


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
        counted_at: when it was counted there, if that was before `at`; see `renew`.
    """

    at: datetime
    before: datetime | None
    spent: int | None
    counted_at: datetime | None = None


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


def refusal_of_number(phone: Phone, source: Source, now: datetime) -> TooManyCalls | None:
    """Return why a rejected call cannot be replaced: others took its place; None if it can.

    Call it in the transaction that creates the other call. Calls to the number wait here.

    Args:
        phone, source, now: see `reserve`.
    """
    if _is_lasting():  # its cooldown has let nobody pass
        return None
    Phone.objects.filter(pk=phone.pk).update(last_called_at=F("last_called_at"))
    windows = [window for window in windows_of(source) if window.scope == Scope.NUMBER]
    usage = _usage(windows, phone, source, now)
    if not usage.full:
        return None
    return TooManyCalls(retry_after=_seconds(phone, usage, source, now), scope=Scope.NUMBER)


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
    counted_at = reservation.counted_at or reservation.at
    budget.count(call.verification_id, counted_at, calls=-1)


def renew(call: Call, reservation: Reservation) -> Reservation | None:
    """Begin the cooldown anew if the database made the request wait, before the call is placed.

    Otherwise, the cooldown would be shorter by that time, and after a long wait, requests that came
    one after the other would call the number at the same moment. A short cooldown stays as it is.

    Args:
        call: the committed row of the call.
        reservation: the result of `reserve`.

    Returns:
        the reservation; None if the request waited for half of the cooldown or longer. The call
        must not be placed then, because other requests that waited cannot know of it.
    """
    cooldown, now = timedelta(seconds=conf.COOLDOWN), timezone.now()
    waited = now - reservation.at
    if conf.COOLDOWN < SHORT_COOLDOWN or waited < cooldown / 10:
        return reservation
    if waited >= cooldown / 2:
        return None
    taken = Phone.objects.filter(pk=call.phone_id, last_called_at=reservation.at)
    try:
        is_taken = taken.update(last_called_at=now)
    except Error:  # the call is stored, so it needs an outcome; its cooldown is only shorter
        return reservation
    if not is_taken:
        return reservation
    call.phone.last_called_at = now
    return reservation._replace(at=now, counted_at=reservation.at)


def is_last(call: Call) -> bool:
    """Return False if another call to the number was requested later, and not rejected.

    If workers were away for that long, the phone would ring several times at once, and its owner
    would not know which code belongs to the page that they see.
    """
    if conf.COOLDOWN < SHORT_COOLDOWN:
        return True
    later = Call.objects.using(router.db_for_write(Call)).exclude(status=Call.Status.REJECTED)
    return not later.filter(
        phone=call.phone_id, created_at__gt=call.created_at, pk__gt=call.pk
    ).exists()


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
        yield Window(Scope.NUMBER, share_of_address(rate), rate.window, (*ours, "network"))
    yield from _wide_windows(source)


def _wide_windows(source: Source) -> Iterator[Window]:
    if rate := conf.CALLS_PER_IP:
        for factor, name in addresses(source):
            yield Window(Scope.ADDRESS, rate.number * factor, rate.window, (name,))
    if rate := conf.CALLS_PER_PREFIX:
        yield Window(Scope.PREFIX, rate.number, rate.window, ("prefix",))


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
        row = last_row(place, window, values)
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
