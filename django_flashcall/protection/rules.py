"""Rules: numbers, ranges and countries to allow or deny, and channels to stop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import Refusal, Rule


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
    prefixes = [phone[:end] for end in range(2, len(phone) + 1)]
    fitting = Rule.objects.filter(
        Q(prefix__in=prefixes) | Q(country=phones.country(phone)) | ~Q(channel="")
    )
    stopped, found = [], []
    for rule in fitting:
        if rule.channel:
            stopped.append(rule.channel)
        else:
            found.append((len(rule.prefix), rule.action == Rule.Action.DENY, rule.action))
    return Judgement(max(found)[2] if found else None, stopped)


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
