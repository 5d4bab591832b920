"""Delete old rows and erase numbers."""

from __future__ import annotations

from collections import Counter
from copy import copy
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, router
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from ..database_errors import transact
from ..models import (
    Call,
    CallCount,
    GuardDecision,
    GuardRequest,
    Phone,
    Refusal,
    Rule,
    Verification,
)
from ..models.verifications import LONGEST_QUEUE

BATCH = 500
"""Rows that one transaction deletes, without related rows; small, so that others do not wait."""

COUNTED = timedelta(days=30)
"""How long a number keeps its wrong codes, however short the retention is: they limit guesses."""

WINDOW = timedelta(days=1)
"""The longest period of a rate: calls in it are counted by ``CALLS_TOTAL``."""

ERASED_SINCE = timedelta(days=7)
"""How far back expired codes are looked for: the command should run every day."""


def forget(phone: Phone) -> None:
    """Erase a number with its calls, reports, attempts, IP addresses and rules.

    Uses the caller's transaction. None of this app's tables refers to the number afterwards, but
    other tables of the site may: fields of its accounts, devices of `contrib.otp`. The number can
    be verified again like a new one.
    """

    def erase() -> None:
        Rule.objects.filter(prefix=phone.number).delete()
        # Wait for a start that is about to add rows, so that none is missed.
        Phone.objects.select_for_update().filter(pk=phone.pk).first()
        copy(phone).delete()

    transact(erase, router.db_for_write(Phone))


def outdated(before: datetime) -> list[QuerySet[Any]]:
    """Return querysets of the rows older than a moment, in the order to delete them, oldest first.

    Verifications are deleted with everything that belongs to them. A number is deleted if it has no
    owner and no recent verification. With wrong codes or a lock it stays longer, because deleting
    it would clear them.
    """
    now = timezone.now()
    counted, quiet = min(before, now - COUNTED), min(before, now - GuardDecision.QUIET)
    recent = Verification.objects.filter(phone=OuterRef("pk"), created_at__gte=before)
    return [
        Verification.objects.filter(created_at__lt=before).order_by("created_at"),
        Phone.objects.filter(
            ~Exists(recent),
            # Conditions on the row itself, so that a concurrent `start` keeps it.
            Q(last_called_at=None) | Q(last_called_at__lt=before),
            Q(failures=0, known_failures=0)
            | Q(last_called_at=None)
            | Q(last_called_at__lt=counted),
            Q(waits_until=None) | Q(waits_until__lt=before),
            owner=None,
            created_at__lt=before,
        ).order_by("created_at"),
        CallCount.objects.filter(begins_at__lt=before - WINDOW).order_by("begins_at"),
        Refusal.objects.filter(hour__lt=before).order_by("hour"),
        # What a person decided stays.
        GuardDecision.objects.filter(last_at__lt=quiet, mode="auto").order_by("last_at"),
        GuardRequest.objects.filter(asked_at__lt=before).order_by("asked_at"),
    ]


def erase_expired_codes(now: datetime) -> None:
    """Erase the code digests of verifications that expired in the last days, in batches.

    Those of verifications that ended in another way were erased at once.
    """
    calls = Call.objects.using(router.db_for_write(Call)).exclude(code_digest="")
    calls = calls.filter(created_at__gt=now - ERASED_SINCE, created_at__lt=now - LONGEST_QUEUE)
    calls = calls.order_by("created_at")
    while batch := list(calls.values_list("pk", "created_at")[:BATCH]):
        Call.objects.filter(pk__in=[pk for pk, _ in batch]).update(code_digest="")
        calls = calls.filter(created_at__gte=batch[-1][1])


def prune(before: datetime) -> Counter[str]:
    """Delete rows older than a moment, in batches, each in its own transaction.

    The code digests of expired verifications are erased too.

    Args:
        before: rows created earlier are deleted.

    Returns:
        the number of deleted rows by model label.
    """
    erase_expired_codes(timezone.now())
    gone: Counter[str] = Counter()
    for rows in outdated(before):
        (time,) = rows.query.order_by
        while batch := list(rows.values_list("pk", time)[:BATCH]):
            found = rows.filter(pk__in=[pk for pk, _ in batch])
            try:
                number, by_model = found.delete()
            except IntegrityError:  # a number was started after it was found to be unused
                number, by_model = found.all().delete()
            gone.update(by_model)
            if not number:
                break
            # Do not look again at the older rows that stay.
            rows = rows.filter(**{f"{time}__gte": batch[-1][1]})
    return gone
