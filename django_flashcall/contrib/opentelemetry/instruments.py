"""The metrics: their names and units, and the closed list of values of each attribute.

A value that is not in its list is recorded as `OTHER`, so that no number, code, address or text of
a provider gets into a metric, and the number of time series has a bound. Names and units follow the
semantic conventions of OpenTelemetry: *Metrics*, *Naming* and *Recording errors*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from ...conf import CHANNELS, conf
from ...delivery.reasons import REASONS
from ...exceptions import (
    DuplicateRejected,
    Misconfigured,
    NumberRejected,
    ProviderError,
    TemporaryFailure,
    UnknownOutcome,
)
from ...models import Call, DeliveryReport, Refusal

OTHER = "_OTHER"
"""Stands for values that are not in the list; the conventions have it for ``error.type``."""

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15)
"""Upper bounds in seconds: those that the conventions advise for HTTP, and the longest wait."""

PROVIDER_ERRORS: dict[type[ProviderError], str] = {
    NumberRejected: "number_rejected",
    DuplicateRejected: "duplicate_rejected",
    TemporaryFailure: "temporary_failure",
    Misconfigured: "misconfigured",
    UnknownOutcome: "unknown_outcome",
}


class Attribute(NamedTuple):
    """An attribute of a metric.

    Attributes:
        key: its name.
        meaning: what it says, for the documentation.
        values: returns the values that it can have, besides `OTHER`.
    """

    key: str
    meaning: str
    values: Callable[[], Collection[str]]


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: its name.
        kind: the kind of instrument.
        unit: its unit (UCUM).
        description: what it measures.
        attributes: the attributes of its measurements; each can be missing.
    """

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[Attribute, ...] = ()


BACKEND = Attribute("flashcall.backend.alias", "alias in `BACKENDS`", lambda: conf.BACKENDS)
CHANNEL = Attribute("flashcall.channel", "type of call", lambda: CHANNELS)
PURPOSE = Attribute(
    "flashcall.purpose", "key of `PURPOSES`; `_OTHER` for `place_call`", lambda: conf.PURPOSES
)
OUTCOME = Attribute(
    "flashcall.call.outcome",
    "what is known after the request to the provider",
    lambda: (Call.Status.SENT.value, Call.Status.UNKNOWN.value, Call.Status.REJECTED.value),
)
PROVIDER_ERROR = Attribute(
    "error.type",
    "kind of the error; missing if the provider accepted the call",
    PROVIDER_ERRORS.values,
)
DELIVERY = Attribute(
    "flashcall.delivery.outcome", "outcome in the report", lambda: DeliveryReport.Outcome.values
)
REASON = Attribute("error.type", "why a call was not delivered; missing if it was", lambda: REASONS)
SCOPE = Attribute("flashcall.limit.scope", "what blocked it", lambda: Refusal.Scope.values)
ERROR_CODE = Attribute("error.type", "`error_code` of the response", lambda: Refusal.Reason.values)

CALLS = Metric(
    "flashcall.calls",
    "counter",
    "{call}",
    "Calls by outcome. A rejected call was certainly not placed.",
    (BACKEND, CHANNEL, OUTCOME, PROVIDER_ERROR),
)
DURATION = Metric(
    "flashcall.provider.request.duration",
    "histogram",
    "s",
    "How long providers take to respond, retries included.",
    (BACKEND, CHANNEL, OUTCOME, PROVIDER_ERROR),
)
IN_FLIGHT = Metric(
    "flashcall.call.in_flight",
    "up-down counter",
    "{call}",
    "Requests of this process that are waiting for a provider, at most MAX_CALLS_IN_FLIGHT.",
)
PAUSED = Metric(
    "flashcall.backend.paused",
    "gauge",
    "{backend}",
    "1 while the circuit breaker of a backend is open, else 0. All processes report the same.",
    (BACKEND,),
)
STARTED = Metric(
    "flashcall.verification.started",
    "counter",
    "{verification}",
    "Verifications that were started.",
    (PURPOSE,),
)
VERIFIED = Metric(
    "flashcall.verification.verified",
    "counter",
    "{verification}",
    "Verifications whose code was entered.",
    (PURPOSE,),
)
REDEEMED = Metric(
    "flashcall.verification.redeemed",
    "counter",
    "{verification}",
    "Verifications whose token was redeemed.",
    (PURPOSE,),
)
BLOCKED = Metric(
    "flashcall.request.blocked",
    "counter",
    "{request}",
    "Requests that a limit, a rule, the fraud guard or a paused backend blocked.",
    (SCOPE, ERROR_CODE),
)
REPORTS = Metric(
    "flashcall.delivery.reports",
    "counter",
    "{report}",
    "Delivery reports. Each outcome of a call is counted once.",
    (BACKEND, CHANNEL, DELIVERY, REASON),
)

METRICS = (
    CALLS,
    DURATION,
    IN_FLIGHT,
    PAUSED,
    STARTED,
    VERIFIED,
    REDEEMED,
    BLOCKED,
    REPORTS,
)


def closed(values: Mapping[Attribute, str | None]) -> dict[str, str]:
    """Return attributes for a measurement; those that are None are left out."""
    return {
        attribute.key: str(value) if value in attribute.values() else OTHER
        for attribute, value in values.items()
        if value is not None
    }


def error_type(error: ProviderError | None) -> str | None:
    """Return the kind of a provider's error, without anything that the provider said."""
    if error is None:
        return None
    kinds = (word for kind, word in PROVIDER_ERRORS.items() if isinstance(error, kind))
    return next(kinds, OTHER)
