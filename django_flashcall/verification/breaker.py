"""Leave a backend alone for a while after several failures in a row.

Visitors then get an answer at once instead of waiting for a provider that does not respond, and the
provider can recover. The state is in the database, so that all processes know it. The pattern is
the circuit breaker of Nygard, *Release It!*.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import Error, IntegrityError, router, transaction
from django.db.models import F
from django.utils import timezone

from .. import signals
from ..conf import conf
from ..database_errors import describe
from ..exceptions import (
    Misconfigured,
    ProviderError,
    ProviderUnavailable,
    TemporaryFailure,
    UnknownOutcome,
)
from ..models import CircuitBreaker, Refusal

logger = logging.getLogger("django_flashcall")


def usable(
    aliases: Sequence[str], breakers: Mapping[str, CircuitBreaker], now: datetime
) -> list[str]:
    """Return the backends that calls may go through now, in the same order.

    Args:
        aliases: the backends of a channel.
        breakers: the breakers of the backends that failed last, by alias.
        now: time of the call.

    Raises:
        ProviderUnavailable: all are paused; `retry_after` says until when.
    """
    now = max(now, timezone.now())  # the request may have begun before the last failure
    paused = {alias: breakers[alias] for alias in aliases if is_paused(breakers.get(alias))}
    times = {alias: breaker.next_try_at or now for alias, breaker in paused.items()}
    waits = {alias: (at - now).total_seconds() for alias, at in times.items()}
    # A longer wait than any means that the clock was set back: it is over.
    found = [a for a in aliases if not 0 < waits.get(a, 0) <= conf.BREAKER_WAIT]
    if not found:
        seconds = math.ceil(min(waits.values()))
        raise ProviderUnavailable(retry_after=seconds, scope=Refusal.Scope.BREAKER)
    return found


def is_paused(breaker: CircuitBreaker | None) -> bool:
    """Return True if a backend is paused, even if one call may try it now."""
    return breaker is not None and breaker.next_try_at is not None and conf.BREAKER_FAILURES > 0


def paused() -> set[str]:
    """Return the aliases of all paused backends, in one query."""
    rows = CircuitBreaker.objects.exclude(next_try_at=None)
    return set(rows.values_list("backend", flat=True)) if conf.BREAKER_FAILURES else set()


def take(breaker: CircuitBreaker | None, now: datetime) -> None:
    """Take the one attempt that a paused backend gets when its wait is over.

    Call it in the transaction that queues the call, so that a rollback gives the attempt back.

    Raises:
        ProviderUnavailable: another request took it.
    """
    if breaker is None or not is_paused(breaker):
        return
    row = CircuitBreaker.objects.filter(backend=breaker.backend, next_try_at=breaker.next_try_at)
    if not row.update(next_try_at=now + timedelta(seconds=conf.BREAKER_WAIT)):
        raise ProviderUnavailable(retry_after=conf.BREAKER_WAIT, scope=Refusal.Scope.BREAKER)


def record(alias: str, error: ProviderError | None, breaker: CircuitBreaker | None) -> None:
    """Count the outcome of a call.

    A failure is an error of the provider or a lost response. Errors in the request of the visitor
    show that the provider works. Errors that need attention say neither: they come at once, and
    waiting does not help.

    Args:
        alias: the backend.
        error: the error of the call; None if it was placed.
        breaker: the breaker of the backend when the call began, if it had failed before.
    """
    try:
        if isinstance(error, (TemporaryFailure, UnknownOutcome)):
            _count_failure(alias, error)
        elif breaker is not None and not isinstance(error, Misconfigured):
            resume(alias)
    except Error as failure:
        name = describe(failure)
        logger.error("The outcome of a call was not counted for backend %r: %s.", alias, name)


def resume(alias: str) -> bool:
    """Let calls go through a backend again; return False if it had not failed."""
    breakers = CircuitBreaker.objects.using(router.db_for_write(CircuitBreaker))
    row = breakers.filter(backend=alias, failures__gt=0).first()
    if row is None:
        return False
    row.failures, row.opened_at, row.next_try_at, was_paused = 0, None, None, row.opened_at
    row.save(update_fields=["failures", "opened_at", "next_try_at"])
    if was_paused:
        logger.warning("Calls go through backend %r again.", alias)
        signals.backend_resumed.send_robust(CircuitBreaker, breaker=row)
    return True


def _count_failure(alias: str, error: ProviderError) -> None:
    if not conf.BREAKER_FAILURES:
        return
    now = timezone.now()
    change = {"failures": F("failures") + 1, "reason": error.description}
    using = router.db_for_write(CircuitBreaker)
    row = CircuitBreaker.objects.using(using).filter(backend=alias)
    if not row.update(**change):
        try:
            with transaction.atomic(using=using):
                CircuitBreaker.objects.create(backend=alias, failures=1, reason=error.description)
        except IntegrityError:  # another request created it first
            row.update(**change)
    failed = row.filter(failures__gte=conf.BREAKER_FAILURES)
    next_try_at = now + timedelta(seconds=conf.BREAKER_WAIT)
    if failed.filter(opened_at=None).update(opened_at=now, next_try_at=next_try_at):
        logger.error(
            "%d calls in a row failed: no calls go through backend %r for %d s: %s",
            conf.BREAKER_FAILURES,
            alias,
            conf.BREAKER_WAIT,
            error.description,
        )
        signals.backend_paused.send_robust(CircuitBreaker, breaker=row.get())
    else:
        failed.update(next_try_at=next_try_at)
