"""How long things are kept, and how they are erased."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..models import GuardDecision, Phone, Refusal, Rule, Verification

BATCH = 500
"""Rows, beside what hangs on them, that one transaction deletes: nobody waits for it."""


def forget(phone: Phone) -> None:
    """Erase a number and all that is known of it: calls, reports, attempts, addresses, rules.

    Joins the caller's transaction. Nothing is left that a dump could be searched for; the number
    can be verified again, as one that was never seen.
    """
    with transaction.atomic(using=router.db_for_write(Phone)):
        Rule.objects.filter(prefix=phone.number).delete()
        phone.delete()


def outdated(before: datetime) -> list[QuerySet[Any]]:
    """Return what is older than a moment, in the order in which it can be deleted.

    Verifications go, with the addresses and everything else that belongs to them. A number goes
    when nobody owns it and nothing of it is left; one that waits stays, or the wait would end.
    """
    recent = Verification.objects.filter(phone=OuterRef("pk"), created_at__gte=before)
    return [
        Verification.objects.filter(created_at__lt=before),
        Phone.objects.filter(
            ~Exists(recent),
            # Of the row itself, so that a start which changes it meanwhile keeps it.
            Q(last_called_at=None) | Q(last_called_at__lt=before),
            Q(waits_until=None) | Q(waits_until__lt=before),
            owner=None,
            created_at__lt=before,
        ),
        Refusal.objects.filter(hour__lt=before),
        GuardDecision.objects.filter(created_at__lt=before),
    ]


def prune(before: datetime) -> Counter[str]:
    """Delete what is older than a moment, in batches, each in a transaction of its own.

    Args:
        before: everything that began earlier goes.

    Returns:
        how many rows of each model went, by its label.
    """
    gone: Counter[str] = Counter()
    for rows in outdated(before):
        while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
            number, by_model = rows.filter(pk__in=keys).delete()
            gone.update(by_model)
            if not number:
                break
    return gone
