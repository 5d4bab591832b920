"""What was refused, counted for the operator: a flood of refusals writes one row an hour."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from django.db import DatabaseError, IntegrityError, router, transaction
from django.db.models import F

from .. import phones, signals
from ..conf import conf
from ..exceptions import FlashcallError
from ..models import Refusal
from .visitors import Source

logger = logging.getLogger("django_flashcall")

BUDGET_SHARES = (100, 80, 50)
"""Percent of ``CALLS_TOTAL`` at which the site's operator is told."""


def count(refusal: FlashcallError, number: str, source: Source, now: datetime) -> None:
    """Count a refusal in the row of its scope, reason and hour; one without a scope is not counted.

    Never in the way: if it cannot be written, the visitor is refused all the same.
    """
    if not refusal.scope:
        return
    examples = {
        Refusal.Scope.ADDRESS: source.network,
        Refusal.Scope.PREFIX: phones.prefix(number),
    }
    example = examples.get(Refusal.Scope(refusal.scope), "")
    hour = now.replace(minute=0, second=0, microsecond=0)
    try:
        _add(refusal.scope, refusal.error_code, hour, example)
    except DatabaseError:
        logger.exception("A refusal was not counted.")


def watch_budget(spent: int | None, now: datetime) -> None:
    """Tell the site's operator, once a day each, that 50, 80 and 100 % of the budget are spent."""
    limit = conf.CALLS_TOTAL
    if spent is None or limit is None:
        return
    for share in BUDGET_SHARES:
        if spent * 100 >= limit.number * share:
            if _is_first(share, now):
                logger.warning("%d %% of the calls of CALLS_TOTAL are spent.", share)
                signals.budget_spent.send_robust(
                    Refusal, share=share, spent=spent, limit=limit.number
                )
            return


_told: set[tuple[datetime, int]] = set()
_told_lock = threading.Lock()


def _is_first(share: int, now: datetime) -> bool:
    """Tell whether nobody, in no process, has told of a share of today's budget."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with _told_lock:
        if (day, share) in _told:
            return False
        _told.difference_update({told for told in _told if told[0] < day - timedelta(days=1)})
        _told.add((day, share))
    try:
        return _add(Refusal.Scope.TOTAL, f"budget_{share}", day, "") == 1
    except DatabaseError:
        return True


def _add(scope: str, reason: str, hour: datetime, example: str) -> int:
    """Count one in a row; return 1 if it is the first one, else 0."""
    row = Refusal.objects.filter(scope=scope, reason=reason, hour=hour)
    changes = {"count": F("count") + 1, "example": example}
    if row.update(**changes):
        return 0
    try:
        with transaction.atomic(using=router.db_for_write(Refusal)):
            Refusal.objects.create(scope=scope, reason=reason, hour=hour, example=example)
    except IntegrityError:  # somebody else was faster
        row.update(**changes)
        return 0
    return 1
