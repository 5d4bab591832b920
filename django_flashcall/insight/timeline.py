"""Everything that happened in a verification, in order, from the rows that tell of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from ..models import Call, Verification


class Kind(enum.IntEnum):
    """What may happen; of what happened in one moment, the smaller came first."""

    STARTED = 1
    CALL = 2
    ANSWER = 3
    REPORT = 4
    ATTEMPT = 5
    VERIFIED = 6
    REDEEMED = 7
    FAILED = 8
    CANCELLED = 9
    EXPIRED = 10


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at: when; None where no row says so, and then it came last.
        kind: what happened.
        row: the `Verification`, `Call`, `DeliveryReport` or `Attempt` that tells of it.
        number: which call of the verification it belongs to, from 1; 0 where it is of none.
    """

    at: datetime | None
    kind: Kind
    row: Any
    number: int = 0

    @property
    def name(self) -> str:
        """The kind as a word for templates."""
        return self.kind.name.lower()


def of(verification: Verification) -> list[Event]:
    """Return what happened in a verification, oldest first, in three queries.

    Args:
        verification: with its `user` and `redeemed_by`, or each costs another query.
    """
    events = [Event(verification.created_at, Kind.STARTED, verification)]
    calls = verification.calls.order_by("pk").prefetch_related("reports")
    for number, call in enumerate(calls, start=1):
        events += _of_call(call, number)
    events += [Event(a.created_at, Kind.ATTEMPT, a) for a in verification.attempts.order_by("pk")]
    events += _ends(verification)
    last = max(event.at for event in events if event.at)
    # Stable: what is told by one row stays in the order of its kinds.
    return sorted(events, key=lambda event: (event.at or last, event.at is None, event.kind))


def _of_call(call: Call, number: int) -> list[Event]:
    events = [Event(call.created_at, Kind.CALL, call, number)]
    if call.answered_at:
        events.append(Event(call.answered_at, Kind.ANSWER, call, number))
    events += [Event(r.created_at, Kind.REPORT, r, number) for r in call.reports.all()]
    return events


def _ends(verification: Verification) -> list[Event]:
    """How it ended. Nothing says when it was cancelled or failed: it was the last to happen."""
    events = []
    if verification.verified_at:
        events.append(Event(verification.verified_at, Kind.VERIFIED, verification))
    if verification.redeemed_at:
        events.append(Event(verification.redeemed_at, Kind.REDEEMED, verification))
    match verification.status:
        case Verification.State.FAILED:
            events.append(Event(None, Kind.FAILED, verification))
        case Verification.State.CANCELLED:
            events.append(Event(None, Kind.CANCELLED, verification))
        case Verification.EXPIRED if verification.expires_at <= timezone.now():
            events.append(Event(verification.expires_at, Kind.EXPIRED, verification))
    return events
