"""May this number be called, and when may it be called next?

The row of a number serialises what happens to it: a start takes the cooldown by a conditional
``UPDATE`` of that row, and counts its windows in the same short transaction, so that any number of
simultaneous starts sees each other. No limit lives in a cache, none is lost by a rollback.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Case, Count, F, Q, QuerySet, Value, When

from .conf import conf
from .exceptions import Cooldown, TooManyCalls
from .models import Call, Phone

FIRST_WAIT = timedelta(hours=1)
"""How long a number waits after ``MAX_FAILURES`` wrong codes in a row."""

LONGEST_WAIT = timedelta(days=1)
"""What the doubled waits end at."""


def reserve(phone: Phone, network: str, now: datetime) -> datetime | None:
    """Take a number's cooldown and its place in the windows for one call, before money is spent.

    Call it in the transaction that creates the row of the call: until that ends, everybody else who
    wants to call the number waits here.

    Args:
        phone: the row of the number; one that is not saved yet is saved.
        network: the visitor's network, empty where unknown.
        now: the moment of the call.

    Returns:
        when the number was called before, for `give_back`.

    Raises:
        Cooldown: the number was called a moment ago.
        TooManyCalls: the number waits, or one of its limits is used up.
    """
    before = phone.last_called_at
    if phone.pk is None and _insert(phone, now):
        before = None
    else:
        free = Q(waits_until=None) | Q(waits_until__lte=now)
        if cooldown := conf.COOLDOWN:
            cooled = Q(last_called_at__lte=now - timedelta(seconds=cooldown))
            free &= Q(last_called_at=None) | cooled
        if Phone.objects.filter(free, pk=phone.pk).update(last_called_at=now):
            phone.last_called_at = now
        elif (kept := Phone.objects.filter(number=phone.number).first()) is not None:
            waits = kept.waits_until is not None and kept.waits_until > now
            refusal = TooManyCalls if waits else Cooldown
            raise refusal(retry_after=retry_after(kept, network, now))
        else:  # erased since it was read
            phone.pk = None
            _insert(phone, now)
    limit = conf.CALLS_PER_PHONE.number
    count = _calls(phone, now).aggregate(
        all=Count("pk"), near=Count("pk", filter=Q(network=network))
    )
    if count["all"] >= limit or (network and count["near"] >= _share(limit)):
        phone.last_called_at = before
        raise TooManyCalls(retry_after=retry_after(phone, network, now))
    return before


def give_back(phone: Phone, taken_at: datetime, before: datetime | None) -> None:
    """Undo what `reserve` took from the number: the call was certainly not placed.

    The windows need no more: they leave rejected calls out.
    """
    Phone.objects.filter(pk=phone.pk, last_called_at=taken_at).update(last_called_at=before)
    phone.last_called_at = before


def retry_after(phone: Phone, network: str, now: datetime) -> int:
    """Return the seconds until the next call to a number is permitted, at least 1."""
    moments = [now, phone.free_at or now]
    rate = conf.CALLS_PER_PHONE
    calls = _calls(phone, now).order_by("-created_at")
    near = calls.filter(network=network) if network else calls.none()
    for limited, limit in ((calls, rate.number), (near, _share(rate.number))):
        # The window is free again when the call that fills it has left it.
        filling = limited.values_list("created_at", flat=True)[limit - 1 : limit].first()
        if filling is not None:
            moments.append(filling + rate.window)
    return max(1, math.ceil((max(moments) - now).total_seconds()))


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
    Phone.objects.filter(pk=phone.pk).update(
        failures=F("failures") + 1, waits_until=Case(*waits, default=F("waits_until"))
    )


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


def _calls(phone: Phone, now: datetime) -> QuerySet[Call]:
    """The calls of a number within the window of ``CALLS_PER_PHONE`` that count."""
    since = now - conf.CALLS_PER_PHONE.window
    return Call.objects.filter(phone=phone, created_at__gt=since).exclude(
        status=Call.Status.REJECTED
    )


def _share(limit: int) -> int:
    """The part of a number's calls that one address may use up: half of them, rounded up."""
    return math.ceil(limit / 2)
