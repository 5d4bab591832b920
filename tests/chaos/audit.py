"""Compare what the site knows with what the provider and the people know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Count, Sum

from django_flashcall.conf import conf
from django_flashcall.models import Call, CallCount, QueuedCall, Verification
from django_flashcall.simulator import PlacedCall

from .people import Person
from .provider import Provider

Status = Call.Status
MAY_BE_PLACED = {Status.UNKNOWN, Status.SENT, Status.DELIVERED, Status.UNDELIVERED}
MAY_NOT_BE_PLACED = {Status.UNKNOWN, Status.REJECTED}
FURTHER = {
    "pending": {"pending", "verified", "redeemed", "failed", "expired"},
    "verified": {"verified", "redeemed"},
    "redeemed": {"redeemed"},
}
"""What the site confirmed → the statuses that agree with it later."""

TOO_LATE = "No worker placed the call in time."
"""The message of rejected calls that keep their place in the limits: a newer call replaced them."""


@dataclass
class Findings:
    """What must not happen, one line each; all four lists must be empty."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong_code: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(vars(self).values())


def audit(provider: Provider, people: Sequence[Person]) -> Findings:
    """Compare the settled database with the provider's list and reports, and with people's notes.

    Args:
        provider: with the calls that it placed, and the reports that the site accepted.
        people: everyone who used the site.
    """
    findings = Findings()
    placed = provider.simulator.calls
    rows = Call.objects.select_related("verification__phone")
    calls = {call.reference.hex: call for call in rows}
    _compare_calls(calls, placed, provider.reported, findings)
    _compare_limits(findings)
    _compare_rings(placed, people, findings)
    _compare_states(calls, placed, people, findings)
    statuses = [Counter({s: n}) for p in people for (s, _), n in p.answers.items()]
    for status, number in sum(statuses, provider.answers.copy()).items():
        if status is not None and status >= 500 and status != 503:
            findings.errors += [f"somebody, or the provider, got {status}"] * number
    return findings


def _compare_calls(
    calls: Mapping[str, Call],
    placed: Sequence[PlacedCall],
    reported: Mapping[str, str],
    findings: Findings,
) -> None:
    times = Counter(call.id for call in placed)
    findings.lost += [f"call {id} has no row" for id in times.keys() - calls.keys()]
    findings.twice += [f"call {id} was placed {n} times" for id, n in times.items() if n > 1]
    for id, call in calls.items():
        agreeing = MAY_BE_PLACED if id in times else MAY_NOT_BE_PLACED
        if id in reported:
            agreeing = {reported[id]}
        if call.status not in agreeing:
            is_placed = "placed" if id in times else "not placed"
            findings.lost.append(
                f"call {id} was {is_placed}, reported {reported.get(id)}, and is {call.status}"
            )
    findings.lost += [f"call {row.call_id} is still queued" for row in QueuedCall.objects.all()]


def _compare_limits(findings: Findings) -> None:
    """Each call counts as long as it may have been placed, and not longer."""
    kept = 0
    rows = Verification.objects.annotate(wrong=Count("attempts", distinct=True))
    for verification in rows.prefetch_related("calls"):
        counting = sum(
            call.status != Status.REJECTED or call.provider_message == TOO_LATE
            for call in verification.calls.all()
        )
        kept += counting
        if (left := verification.calls_left) != conf.MAX_CALLS - counting:
            findings.lost.append(
                f"verification {verification.pk} has {left} calls left after {counting}"
            )
        typed = verification.wrong + (verification.verified_at is not None)
        if (left := verification.attempts_left) != conf.MAX_ATTEMPTS - typed:
            findings.lost.append(
                f"verification {verification.pk} has {left} attempts left after {typed}"
            )
    counted = CallCount.objects.aggregate(Sum("calls"))["calls__sum"] or 0
    if counted != kept:
        findings.lost.append(f"CALLS_TOTAL counts {counted} calls instead of {kept}")


def _compare_rings(
    placed: Sequence[PlacedCall], people: Iterable[Person], findings: Findings
) -> None:
    rings = Counter(call.number for call in placed)
    for person in people:
        if rings[person.number] > person.asked:
            findings.twice.append(
                f"{rings[person.number]} calls to somebody who asked {person.asked} times"
            )


def _compare_states(
    calls: Mapping[str, Call],
    placed: Sequence[PlacedCall],
    people: Iterable[Person],
    findings: Findings,
) -> None:
    codes: dict[UUID, set[str]] = defaultdict(set)
    for sent in placed:
        if sent.id in calls:
            codes[calls[sent.id].verification_id].add(sent.code)
    rows = Verification.objects.select_related("phone__owner").in_bulk()
    typed: dict[UUID, set[str]] = defaultdict(set)
    for person in people:
        for id, sent_codes in person.typed.items():
            typed[UUID(id)].update(sent_codes)
        for id, code in person.right:
            if code not in codes[UUID(id)]:
                findings.wrong_code.append(f"verification {id} accepted a code of no call")
        for id, state in person.confirmed.items():
            row = rows.get(UUID(id))
            found = row.status if row else "missing"
            if found not in FURTHER[state]:
                findings.lost.append(f"verification {id} was {state} and is {found}")
            if row and state == "redeemed" and str(row.phone.owner) != person.name:
                findings.lost.append(f"the number of verification {id} has another owner")
    for pk, row in rows.items():
        if row.status in ("verified", "redeemed") and not codes[pk] & typed[pk]:
            findings.wrong_code.append(f"verification {pk} was verified without its code")
