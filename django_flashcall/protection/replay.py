"""What if: replay the site's own calls under other settings, and count who would be refused.

Nothing is written. The fraud guard judges with the same functions as for a request, as if no person
had decided anything. Requests that were refused at the time have no row, so they are missing.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from ..conf import FlashcallSettings, Rate, conf
from ..models import Call, GuardDecision
from ..prepared.records import seconds_of
from . import budget, evidence, fraud_guard
from .evidence import Observed
from .fraud_guard import Kind, Narrowing, Scope, Seen
from .visitors import Source
from .windows import addresses, share_of_address

SETTINGS = (
    "FRAUD_GUARD",
    "CALLS_TOTAL",
    "CALLS_PER_PHONE",
    "CALLS_PER_IP",
    "CALLS_PER_PREFIX",
)
"""What can be tried."""

OF_UNVERIFIED = ("CALLS_PER_IP", "CALLS_PER_PREFIX")
"""Limits that count only calls that nobody verified."""


class Placed(NamedTuple):
    """A call that was placed.

    Attributes:
        number: the primary key of its number.
        prefix: its range.
        network: the visitor's network.
        at: when it was requested.
        progress: a `Call.Progress`: how far its verification came.
        is_known: the caller is the owner, or has verified the number before.
        verification: the id of its verification.
        wide_network: the wider network of an IPv6 visitor; empty for others.
    """

    number: int
    prefix: str
    network: str
    at: datetime
    progress: int
    is_known: bool
    verification: UUID
    wide_network: str

    @property
    def completed(self) -> bool:
        return self.progress == Call.Progress.COMPLETED


@dataclass(slots=True)
class Outcome:
    """The result of a replay.

    Attributes:
        calls: calls that were placed.
        honest: those that were completed.
        saved: calls that nobody completed, and that would be refused.
        refused: completed calls that would be refused.
        delayed: completed calls that would be placed when the person comes back as told.
        reasons: what would refuse them, by limit.
    """

    calls: int = 0
    honest: int = 0
    saved: int = 0
    refused: int = 0
    delayed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings to try: those that are given, parsed, and the site's own.

    Raises:
        ValueError: a setting cannot be tried, or its value is not valid.
    """
    if unknown := set(given) - set(SETTINGS):
        raise ValueError(f"{min(unknown)} cannot be tried; these can: {', '.join(SETTINGS)}")
    found = {name: getattr(conf, name) for name in SETTINGS}
    for name, value in given.items():
        try:
            found[name] = getattr(FlashcallSettings, name).parse(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def placed(since: datetime) -> Iterator[Placed]:
    """Yield the calls since a moment, oldest first."""
    calls = Call.objects.filter(created_at__gte=since, is_test=False)
    calls = calls.exclude(status=Call.Status.REJECTED).order_by("created_at", "pk")
    columns = (
        "phone",
        "prefix",
        "network",
        "created_at",
        "progress",
        "is_known",
        "verification",
        "wide_network",
    )
    yield from map(Placed._make, calls.values_list(*columns).iterator())


def replay(calls: Iterable[Placed], settings: Mapping[str, Any]) -> Outcome:
    """Return what would become of strangers' calls under the settings that `values` returns."""
    outcome = Outcome()
    site = _Site(settings)
    for call in calls:
        if call.is_known:  # they have limits of their own, but spend the budget of the site
            site.windows["CALLS_TOTAL", ""].append(call.at)
            continue
        outcome.calls += 1
        outcome.honest += call.completed
        reason, comes_back = site.judge(call)
        if not reason:
            continue
        outcome.reasons[reason] += 1
        if not call.completed:
            outcome.saved += 1
        elif comes_back:
            outcome.delayed += 1
        else:
            outcome.refused += 1
    return outcome


class _Site:
    """What a site would know of its calls."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.calls: dict[tuple[str, str], deque[Observed]] = defaultdict(
            lambda: deque(maxlen=2 * fraud_guard.SAMPLE)
        )
        self.decisions: dict[tuple[str, str], GuardDecision] = {}
        self.windows: dict[tuple[str, Any], deque[datetime]] = defaultdict(deque)
        self.tries: Counter[UUID] = Counter()
        """Calls of each verification that were placed."""

    def judge(self, call: Placed) -> tuple[str, bool]:
        """Return why a call would be refused, or "", and whether it passes when asked again."""
        limits = list(self._limits(call))
        for name, value, limit in limits:
            if self._count(name, value, self.settings[name], call.at) >= limit:
                return name, False
        comes_back = False
        # The first call of a verification can fail: the second one is not judged.
        if self.settings["FRAUD_GUARD"] == "deny" and self.tries[call.verification] != 1:
            narrowings = self._narrowings(call)
            if not self._pass(narrowings, call.at, Kind.AT_ONCE):
                later = call.at + evidence.RETURN_AFTER
                comes_back = call.completed and self._pass(narrowings, later, Kind.RETURNING)
                if not comes_back:
                    return "FRAUD_GUARD", False
        self.tries[call.verification] += 1
        for name, value, _ in limits:
            if name not in OF_UNVERIFIED or call.progress == Call.Progress.UNVERIFIED:
                self.windows[name, value].append(call.at)
        seen = Observed(call.number, call.network, seconds_of(call.at), call.completed)
        self.calls[Scope.PREFIX, call.prefix].append(seen)
        if call.network:
            self.calls[Scope.ADDRESS, call.network].append(seen._replace(network=""))
        return ("FRAUD_GUARD", True) if comes_back else ("", False)

    def _limits(self, call: Placed) -> Iterator[tuple[str, Any, int]]:
        """Yield the limits that count a call: the setting, the window, and how much fits."""
        rates: Mapping[str, Rate | None] = self.settings
        if rate := rates["CALLS_PER_PHONE"]:
            yield "CALLS_PER_PHONE", call.number, rate.number
            if call.network:
                share = share_of_address(rate)
                yield "CALLS_PER_PHONE", (call.number, call.network), share
        if rate := rates["CALLS_PER_IP"]:
            for factor, column in addresses(Source(call.network, call.wide_network)):
                yield "CALLS_PER_IP", getattr(call, column), rate.number * factor
        if rate := rates["CALLS_PER_PREFIX"]:
            yield "CALLS_PER_PREFIX", call.prefix, rate.number
        if rate := rates["CALLS_TOTAL"]:
            yield "CALLS_TOTAL", "", budget.of_strangers(rate)

    def _count(self, name: str, value: Any, rate: Rate, now: datetime) -> int:
        times = self.windows[name, value]
        while times and times[0] <= now - rate.window:
            times.popleft()
        return len(times)

    def _narrowings(self, call: Placed) -> list[Narrowing]:
        total = self.settings["CALLS_TOTAL"]
        spent = 0 if total is None else self._count("CALLS_TOTAL", "", total, call.at)
        found = []
        for scope, value in ((Scope.ADDRESS, call.network), (Scope.PREFIX, call.prefix)):
            if not value:
                continue
            known = self.calls[scope, value]
            oldest = seconds_of(call.at - fraud_guard.MEMORY)
            while known and known[0].at <= oldest:
                known.popleft()
            calls = [c for c in known if scope == Scope.PREFIX or c.number != call.number]
            decision = self.decisions.get((scope, value))
            seen = Seen(decisions={scope: decision} if decision else {}, spent=spent)
            narrowing = fraud_guard.judge(scope, value, calls, seen, call.at, total)
            if narrowing is not None:
                self.decisions[scope, value] = narrowing.decision
                found.append(narrowing)
        return found

    def _pass(self, narrowings: list[Narrowing], at: datetime, kind: Kind) -> bool:
        fits = all(not narrowing.free_in(at, kind) for narrowing in narrowings)
        for narrowing in narrowings:
            decision = narrowing.decision
            if fits:
                setattr(decision, kind.column, at)
            if not (fits and decision.denied):
                decision.last_at = at
            decision.denied = True
        return fits
