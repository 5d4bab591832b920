"""Count blocked requests by hour, for administrators, so that a flood writes a single row."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from django.db import Error, IntegrityError, router, transaction
from django.db.models import F

from .. import phones, signals
from ..conf import conf
from ..database_errors import describe
from ..exceptions import FlashcallError
from ..models import Refusal
from . import budget
from .visitors import Source

logger = logging.getLogger("django_flashcall")

BUDGET_SHARES = (100, 80, 50)
"""Percentages of what strangers can use of ``CALLS_TOTAL`` at which `budget_spent` is sent."""


def count(refusal: FlashcallError, number: str, source: Source, now: datetime) -> None:
    """Count a blocked request by scope, reason and hour, if it has a scope, and send its signal.

    A database error is logged and not raised: the visitor gets the refusal all the same.
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
    except Error as error:
        logger.error("A refusal was not counted: %s.", describe(error))
    signals.request_blocked.send_robust(Refusal, error=refusal)


def watch_budget(spent: int | None, now: datetime) -> None:
    """Send `budget_spent` at 50, 80 and 100 % of what strangers can use, once a day each."""
    if spent is None or conf.CALLS_TOTAL is None:
        return
    limit = int(budget.limit())
    for share in BUDGET_SHARES:
        if spent * 100 >= limit * share:
            if _is_first(share, now):
                logger.warning("%d %% of the calls of CALLS_TOTAL for strangers are spent.", share)
                signals.budget_spent.send_robust(Refusal, share=share, spent=spent, limit=limit)
            return


_told: set[tuple[datetime, int]] = set()
_told_lock = threading.Lock()


def _is_first(share: int, now: datetime) -> bool:
    """Return True if no process has sent the signal for this percentage today."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with _told_lock:
        if (day, share) in _told:
            return False
        _told.difference_update({told for told in _told if told[0] < day - timedelta(days=1)})
        _told.add((day, share))
    try:
        return _add(Refusal.Scope.TOTAL, f"budget_{share}", day, "") == 1
    except Error:
        return True


def _add(scope: str, reason: str, hour: datetime, example: str) -> int:
    """Add 1 to a row; return 1 if the row is new, else 0."""
    row = Refusal.objects.filter(scope=scope, reason=reason, hour=hour)
    changes = {"count": F("count") + 1, "example": example}
    if row.update(**changes):
        return 0
    try:
        with transaction.atomic(using=router.db_for_write(Refusal)):
            Refusal.objects.create(scope=scope, reason=reason, hour=hour, example=example)
    except IntegrityError:  # another request created it first
        row.update(**changes)
        return 0
    return 1
