"""The timeline of a verification, built from its rows."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..models import Call, Verification


class Kind(enum.IntEnum):
    """Kinds of events, in the order of events with the same time."""

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
    """An event in the timeline.

    Attributes:
        at: its time; None if no row stores it, which makes it the last event.
        kind: what happened.
        row: the `Verification`, `Call`, `DeliveryReport` or `Attempt` that it comes from.
        number: the number of its call in the verification, from 1; 0 if it has no call.
    """

    at: datetime | None
    kind: Kind
    row: Any
    number: int = 0

    @property
    def name(self) -> str:
        """The kind in lower case, for templates."""
        return self.kind.name.lower()


def of(verification: Verification) -> list[Event]:
    """Return the events of a verification, oldest first, in three queries.

    Args:
        verification: fetched with `user`, `redeemed_by` and `former_owner`, or each costs another
            query.
    """
    events = [Event(verification.created_at, Kind.STARTED, verification)]
    calls = verification.calls.order_by("pk").prefetch_related("reports")
    for number, call in enumerate(calls, start=1):
        events += _call_events(call, number)
    events += [Event(a.created_at, Kind.ATTEMPT, a) for a in verification.attempts.order_by("pk")]
    events += _final_events(verification)
    last = max(event.at for event in events if event.at)
    # The sort is stable: events of the same time and kind keep their order.
    return sorted(events, key=lambda event: (event.at or last, event.at is None, event.kind))


def _call_events(call: Call, number: int) -> list[Event]:
    events = [Event(call.created_at, Kind.CALL, call, number)]
    if call.answered_at:
        events.append(Event(call.answered_at, Kind.ANSWER, call, number))
    events += [Event(r.created_at, Kind.REPORT, r, number) for r in call.reports.all()]
    return events


def _final_events(verification: Verification) -> list[Event]:
    """Return the final events. No row stores when it failed or was cancelled: that comes last."""
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
        case Verification.EXPIRED:
            events.append(Event(verification.expires_at, Kind.EXPIRED, verification))
    return events
