"""Rules: numbers, ranges and countries to allow or deny, and channels to stop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import router
from django.db.models import F, Q, QuerySet, Value

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import Phone, Refusal, Rule
from ..prepared import Prepared


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is stored about a number before it is called.

    Attributes:
        action: the action of the rule that applies, or None.
        stopped: channels that are stopped.
        phone: the row of the number, with the fields that a call needs; a new one, not saved, if
            there is none.
    """

    action: str | None
    stopped: Collection[str]
    phone: Phone


def judge(number: str) -> Judgement:
    """Find the rules for a number in E.164, and its row, in one query.

    The longest prefix wins, then the country.
    """
    prefixes = {f"prefix{end}": number[:end] for end in range(2, len(number) + 1)}
    stopped, found = [], []
    phone = Phone(number=number)
    for action, prefix, channel, pk, *times in _FITTING.rows(
        number=number, country=phones.country(number), **prefixes
    ):
        if action == _PHONE:
            names = ["id", "number", "last_called_at", "waits_until"]
            phone = Phone.from_db(router.db_for_write(Phone), names, [pk, prefix, *times])
        elif channel:
            stopped.append(channel)
        else:
            found.append((len(prefix), action == Rule.Action.DENY, action))
    return Judgement(max(found)[2] if found else None, stopped, phone)


def check_allowed(judgement: Judgement) -> None:
    """Raise an error if a number must not be called.

    Rules take precedence over ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES``.

    Raises:
        PhoneNotAllowed: the same error whether or not the site knows the number.
    """
    denied = judgement.action == Rule.Action.DENY
    if denied or (judgement.action is None and not phones.is_allowed(judgement.phone.number)):
        raise PhoneNotAllowed(scope=Refusal.Scope.RULE)


_PHONE = "phone"


def _fitting(*, number: Any, country: Any, **prefixes: Any) -> list[QuerySet[Any, Any]]:
    rules = Rule.objects.filter(
        Q(prefix__in=list(prefixes.values())) | Q(country=country) | ~Q(channel="")
    )
    at = F("created_at")  # only to have the columns of a phone
    return [
        rules.annotate(a=at, b=at).values_list("action", "prefix", "channel", "pk", "a", "b"),
        Phone.objects.filter(number=number)
        .annotate(is_phone=Value(_PHONE), none=Value(""))
        .values_list("is_phone", "number", "none", "pk", "last_called_at", "waits_until"),
    ]


_FITTING = Prepared(Rule, _fitting)
