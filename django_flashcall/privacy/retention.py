"""Delete old rows and erase numbers."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..models import CallCount, GuardDecision, GuardRequest, Phone, Refusal, Rule, Verification

BATCH = 500
"""Rows that one transaction deletes, without related rows; small, so that others do not wait."""


def forget(phone: Phone) -> None:
    """Erase a number with its calls, reports, attempts, IP addresses and rules.

    Uses the caller's transaction. Nothing in the database refers to the number afterwards. It can
    be verified again like a new one.
    """
    with transaction.atomic(using=router.db_for_write(Phone)):
        Rule.objects.filter(prefix=phone.number).delete()
        # Wait for a start that is about to add rows, so that none is missed.
        Phone.objects.select_for_update().filter(pk=phone.pk).first()
        phone.delete()


def outdated(before: datetime) -> list[QuerySet[Any]]:
    """Return querysets of the rows older than a moment, in the order to delete them, oldest first.

    Verifications are deleted with everything that belongs to them. A number is deleted if it has no
    owner and no recent verification; a locked number stays, because deleting it would unlock it.
    """
    recent = Verification.objects.filter(phone=OuterRef("pk"), created_at__gte=before)
    return [
        Verification.objects.filter(created_at__lt=before).order_by("created_at"),
        Phone.objects.filter(
            ~Exists(recent),
            # Conditions on the row itself, so that a concurrent `start` keeps it.
            Q(last_called_at=None) | Q(last_called_at__lt=before),
            Q(waits_until=None) | Q(waits_until__lt=before),
            owner=None,
            created_at__lt=before,
        ).order_by("created_at"),
        CallCount.objects.filter(begins_at__lt=before).order_by("begins_at"),
        Refusal.objects.filter(hour__lt=before).order_by("hour"),
        # What a person decided stays.
        GuardDecision.objects.filter(last_at__lt=before, mode="auto").order_by("last_at"),
        GuardRequest.objects.filter(asked_at__lt=before).order_by("asked_at"),
    ]


def prune(before: datetime) -> Counter[str]:
    """Delete rows older than a moment, in batches, each in its own transaction.

    Args:
        before: rows created earlier are deleted.

    Returns:
        the number of deleted rows by model label.
    """
    gone: Counter[str] = Counter()
    for rows in outdated(before):
        (time,) = rows.query.order_by
        while batch := list(rows.values_list("pk", time)[:BATCH]):
            number, by_model = rows.filter(pk__in=[pk for pk, _ in batch]).delete()
            gone.update(by_model)
            if not number:
                break
            # Do not look again at the older rows that stay.
            rows = rows.filter(**{f"{time}__gte": batch[-1][1]})
    return gone
