"""Record the metrics. Without an SDK, the API of OpenTelemetry does nothing.

What was not placed is not counted: test numbers, and `services.pretend_call`. Importing this module
connects the receivers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from django.db import connections, router
from django.dispatch import receiver
from opentelemetry.metrics import CallbackOptions, Counter, Observation, get_meter

from ... import signals
from ...conf import conf
from ...database_errors import describe
from ...exceptions import FlashcallError, ProviderError
from ...models import Call, CircuitBreaker, DeliveryReport, Verification
from ...verification import breaker, in_flight
from . import instruments
from .instruments import Metric, closed

logger = logging.getLogger("django_flashcall")


def _paused(options: CallbackOptions) -> Iterable[Observation]:
    """Return the state of each backend, or nothing while the database is not available.

    Collections run in threads of exporters, which Django does not tidy up: close the connection if
    this opened it.
    """
    connection = connections[router.db_for_read(CircuitBreaker)]
    was_open = connection.connection is not None
    try:
        paused = breaker.paused()
        return [
            Observation(int(alias in paused), closed({instruments.BACKEND: alias}))
            for alias in conf.BACKENDS
        ]
    except Exception as error:  # whatever it is, all other metrics are exported
        logger.warning("The state of the backends was not exported: %s.", describe(error))
        return []
    finally:
        if not was_open:
            connection.close()


def _in_flight(options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(in_flight.count())]


_meter = get_meter("django_flashcall", version("django-flashcall"))


def _counter(metric: Metric) -> Counter:
    return _meter.create_counter(metric.name, metric.unit, metric.description)


_calls = _counter(instruments.CALLS)
_started = _counter(instruments.STARTED)
_verified = _counter(instruments.VERIFIED)
_redeemed = _counter(instruments.REDEEMED)
_blocked = _counter(instruments.BLOCKED)
_reports = _counter(instruments.REPORTS)
_duration = _meter.create_histogram(
    instruments.DURATION.name,
    instruments.DURATION.unit,
    instruments.DURATION.description,
    explicit_bucket_boundaries_advisory=instruments.BUCKETS,
)
_meter.create_observable_gauge(
    instruments.PAUSED.name, [_paused], instruments.PAUSED.unit, instruments.PAUSED.description
)
_meter.create_observable_up_down_counter(
    instruments.IN_FLIGHT.name,
    [_in_flight],
    instruments.IN_FLIGHT.unit,
    instruments.IN_FLIGHT.description,
)


@receiver([signals.call_placed, signals.call_failed])
def count_call(
    call: Call,
    error: ProviderError | None = None,
    duration: float | None = None,
    **kwargs: Any,
) -> None:
    outcome = Call.Status.SENT
    if error is not None:
        is_unknown = error.may_have_been_placed
        outcome = Call.Status.UNKNOWN if is_unknown else Call.Status.REJECTED
    attributes = closed(
        {
            instruments.BACKEND: call.backend,
            instruments.CHANNEL: call.channel,
            instruments.OUTCOME: outcome,
            instruments.PROVIDER_ERROR: instruments.error_type(error),
        }
    )
    _calls.add(1, attributes)
    if duration is not None:
        _duration.record(duration, attributes)


@receiver(signals.verification_started)
def count_started(verification: Verification, **kwargs: Any) -> None:
    _count(_started, verification)


@receiver(signals.phone_verified)
def count_verified(verification: Verification, **kwargs: Any) -> None:
    _count(_verified, verification)


@receiver(signals.phone_redeemed)
def count_redeemed(verification: Verification, **kwargs: Any) -> None:
    _count(_redeemed, verification)


@receiver(signals.request_blocked)
def count_blocked(error: FlashcallError, **kwargs: Any) -> None:
    _blocked.add(
        1,
        closed({instruments.SCOPE: error.scope, instruments.ERROR_CODE: error.error_code}),
    )


@receiver(signals.delivery_reported)
def count_report(call: Call, report: DeliveryReport, **kwargs: Any) -> None:
    attributes = closed(
        {
            instruments.BACKEND: call.backend,
            instruments.CHANNEL: call.channel,
            instruments.DELIVERY: report.outcome,
            instruments.REASON: report.error_code or None,
        }
    )
    _reports.add(1, attributes)


def _count(counter: Counter, verification: Verification) -> None:
    if not verification.newest_call.is_test:
        counter.add(1, closed({instruments.PURPOSE: verification.purpose}))
