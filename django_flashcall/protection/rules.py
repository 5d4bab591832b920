"""Rules: numbers, ranges and countries to allow or deny, and channels to stop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import Refusal, Rule
from ..prepared import Prepared


@dataclass(frozen=True, slots=True)
class Judgement:
    """The rules that apply to a number.

    Attributes:
        action: the action of the rule that applies, or None.
        stopped: channels that are stopped.
    """

    action: str | None
    stopped: Collection[str]


def judge(phone: str) -> Judgement:
    """Find the rules for a number in E.164. The longest prefix wins, then the country."""
    prefixes = {f"prefix{end}": phone[:end] for end in range(2, len(phone) + 1)}
    stopped, found = [], []
    for action, prefix, channel in _FITTING.rows(country=phones.country(phone), **prefixes):
        if channel:
            stopped.append(channel)
        else:
            found.append((len(prefix), action == Rule.Action.DENY, action))
    return Judgement(max(found)[2] if found else None, stopped)


_FITTING = Prepared(
    Rule,
    lambda *, country, **prefixes: [
        Rule.objects.filter(
            Q(prefix__in=list(prefixes.values())) | Q(country=country) | ~Q(channel="")
        ).values_list("action", "prefix", "channel")
    ],
)


def check_allowed(phone: str) -> Judgement:
    """Raise an error if a number must not be called.

    Rules take precedence over ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES``.

    Raises:
        PhoneNotAllowed: the same error whether or not the site knows the number.
    """
    judgement = judge(phone)
    denied = judgement.action == Rule.Action.DENY
    if denied or (judgement.action is None and not phones.is_allowed(phone)):
        raise PhoneNotAllowed(scope=Refusal.Scope.RULE)
    return judgement
