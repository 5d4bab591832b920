"""Limits on wrong codes: of an address, over all numbers, and of a number, whose lock grows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, DateTimeField, F, Subquery, Value, When

from ..conf import conf
from ..exceptions import TooManyAttempts
from ..models import Call, Phone, Refusal
from ..prepared.writes import PreparedUpdate, Write
from .visitors import Source
from .windows import Window, addresses, last_row, shape, values

FIRST_WAIT = timedelta(hours=1)
"""How long a number is locked after ``MAX_FAILURES`` wrong codes in a row."""

LONGEST_WAIT = timedelta(days=1)
"""The longest time that a number is locked."""

WAITS = (*(FIRST_WAIT * 2**n for n in range(5)), LONGEST_WAIT)
"""The wait doubles with each wrong code more."""


def of_address(source: Source, now: datetime) -> dict[str, Any]:
    """Return the arguments of `Call.newest` that look up the wrong codes of an address."""
    windows = list(_windows(source))
    return {
        "beside": _full,
        "options": tuple(map(shape, windows)),
        "values": values(windows, source._asdict(), now),
    }


def check(call: Call, source: Source, now: datetime) -> None:
    """Raise an error if an address has entered too many wrong codes, over all numbers.

    Args:
        call: the result of `Call.newest` with `of_address`.
        source: the source of the request.
        now: time of the attempt.

    Raises:
        TooManyAttempts: ``FAILURES_PER_IP`` is reached.
    """
    if source.is_known:  # strangers who share the address cannot use up their attempts
        return
    windows = _windows(source)
    ends = [at + w.length for w, at in zip(windows, call.beside, strict=True) if at is not None]
    if ends:
        seconds = (max(ends) - now).total_seconds()
        raise TooManyAttempts(retry_after=math.ceil(seconds), scope=Refusal.Scope.ADDRESS)


def count_write(phone: Phone, now: datetime, *, is_known: bool = False) -> Write:
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


def _windows(source: Source) -> Iterator[Window]:
    if rate := conf.FAILURES_PER_IP:
        for factor, name in addresses(source):
            limit = rate.number * factor
            yield Window(Refusal.Scope.ADDRESS, limit, rate.window, ("attempts", name))


def _full(*windows: tuple[int, tuple[str, ...]], **values: Any) -> list[Any]:
    return [
        Subquery(last_row(place, window, values).values("created_at"))
        for place, window in enumerate(windows)
    ]
