"""The operators' rules: whom to call, whom not, and which channels are stopped."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import Refusal, Rule


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say of a number, read in one query.

    Attributes:
        action: of the rule that decides, None where none fits.
        stopped: channels that place no calls at all.
    """

    action: str | None
    stopped: Collection[str]


def judge(phone: str) -> Judgement:
    """Read the rules that fit a number in E.164; the longest prefix decides, then its country."""
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
    """Refuse a number that must not be called, before anything is spent.

    A rule decides alone; without one ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES`` do.

    Raises:
        PhoneNotAllowed: the answer is the same whether or not the site knows the number.
    """
    judgement = judge(phone)
    denied = judgement.action == Rule.Action.DENY
    if denied or (judgement.action is None and not phones.is_allowed(phone)):
        raise PhoneNotAllowed(scope=Refusal.Scope.RULE)
    return judgement
