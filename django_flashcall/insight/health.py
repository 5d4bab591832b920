"""Provider health: the last success, the last failure, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.db.models import Q, Subquery

from ..conf import conf
from ..models import Call, CircuitBreaker, Rule
from ..models.verifications import FAILED

VISITOR_ERRORS = ("invalid_destination", "duplicate_call")
"""Reasons of rejected calls that depend on the visitor's request, not on the provider."""

ACCEPTED = (Call.Status.SENT, Call.Status.DELIVERED, Call.Status.UNDELIVERED)
"""Statuses of calls that the provider accepted."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one backend.

    Attributes:
        backend: its alias.
        success: the last call that the provider accepted, or None.
        trouble: the last failed call, without failures caused by the visitor's request, or None.
        needs_attention: the last call that needs attention; None if a later one succeeded.
        paused: its circuit breaker if no calls go through it, or None.
    """

    backend: str
    success: Call | None = None
    trouble: Call | None = None
    needs_attention: Call | None = None
    paused: CircuitBreaker | None = None


def backends() -> list[Health]:
    """Return the health of each backend in the settings, in two queries."""
    wanted = Q(pk__in=())
    for alias in conf.BACKENDS:
        calls = Call.objects.filter(backend=alias).order_by("-created_at").values("pk")
        # Each subquery is one index lookup, and is executed once, not once per row.
        wanted |= Q(pk=Subquery(calls.filter(status__in=ACCEPTED)[:1]))
        wanted |= Q(pk=Subquery(calls.filter(FAILED).exclude(error_code__in=VISITOR_ERRORS)[:1]))
        wanted |= Q(pk=Subquery(calls.filter(must_mend=True)[:1]))
    breakers = CircuitBreaker.objects.exclude(opened_at=None) if conf.BREAKER_FAILURES else ()
    paused = {row.backend: row for row in breakers}
    found = {alias: Health(alias, paused=paused.get(alias)) for alias in conf.BACKENDS}
    for call in Call.objects.filter(wanted).order_by("created_at", "pk"):
        health = found[call.backend]
        if call.status in ACCEPTED:
            found[call.backend] = replace(health, success=call, needs_attention=None)
        else:
            needs_attention = call if call.must_mend else health.needs_attention
            found[call.backend] = replace(health, trouble=call, needs_attention=needs_attention)
    return list(found.values())


def working_channel(code_length: int) -> str | None:
    """Return the channel that calls with so many digits go through; None if there is none."""
    stopped = stopped_channels()
    return next((name for name in conf.channels_with(code_length) if name not in stopped), None)


def stopped_channels() -> list[str]:
    """Return the channels that a rule stops."""
    return sorted(Rule.objects.exclude(channel="").values_list("channel", flat=True).distinct())
