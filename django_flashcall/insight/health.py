"""How each backend does: when it last worked, what troubled it, what the operator must mend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.db.models import Q, Subquery

from ..conf import conf
from ..models import TROUBLED, Call, Rule

PERSONS = ("invalid_destination", "duplicate_call")
"""Reasons of calls that were rejected because of what a person asked for."""

TAKEN = (Call.Status.SENT, Call.Status.DELIVERED, Call.Status.UNDELIVERED)
"""States of calls that the provider took."""


@dataclass(frozen=True, slots=True)
class Health:
    """One backend.

    Attributes:
        backend: its alias.
        success: the last call that its provider took, or None.
        trouble: the last call that failed for another reason than the person's, or None.
        to_mend: the last call that failed because of what the site's operator must mend, unless a
            call has succeeded since.
    """

    backend: str
    success: Call | None = None
    trouble: Call | None = None
    to_mend: Call | None = None


def backends() -> list[Health]:
    """Return how each backend of the settings does, in one query."""
    wanted = Q(pk__in=())
    for alias in conf.BACKENDS:
        calls = Call.objects.filter(backend=alias).order_by("-created_at").values("pk")
        # Each is one probe of an index: such a subquery is asked once, not for each row.
        wanted |= Q(pk=Subquery(calls.filter(status__in=TAKEN)[:1]))
        wanted |= Q(pk=Subquery(calls.filter(TROUBLED).exclude(error_code__in=PERSONS)[:1]))
        wanted |= Q(pk=Subquery(calls.filter(must_mend=True)[:1]))
    found = {alias: Health(alias) for alias in conf.BACKENDS}
    for call in Call.objects.filter(wanted).order_by("created_at", "pk"):
        health = found[call.backend]
        if call.status in TAKEN:
            found[call.backend] = replace(health, success=call, to_mend=None)
        else:
            to_mend = call if call.must_mend else health.to_mend
            found[call.backend] = replace(health, trouble=call, to_mend=to_mend)
    return list(found.values())


def stopped_channels() -> list[str]:
    """Return the channels that a rule has stopped."""
    return sorted(Rule.objects.exclude(channel="").values_list("channel", flat=True).distinct())
