"""Rules: numbers, ranges and countries to allow or deny, and channels to stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import router
from django.db.models import F, Q, QuerySet, Value

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import CircuitBreaker, Phone, Refusal, Rule
from ..prepared import Prepared


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is stored that decides whether and how a number is called.

    Attributes:
        action: the action of the rule that applies, or None.
        stopped: channels that are stopped.
        phone: the row of the number, with the fields that a call needs; a new one, not saved, if
            there is none.
        breakers: the circuit breakers of backends that failed last, by alias.
    """

    action: str | None
    stopped: Collection[str]
    phone: Phone
    breakers: Mapping[str, CircuitBreaker]


def judge(number: str) -> Judgement:
    """Find the rules for a number in E.164, its row and the circuit breakers, in one query.

    The longest prefix wins, then the country.
    """
    prefixes = {f"prefix{end}": number[:end] for end in range(2, len(number) + 1)}
    stopped, found = [], []
    phone, breakers = Phone(number=number), {}
    for action, prefix, channel, pk, *times in _FITTING.rows(
        number=number, country=phones.country(number), **prefixes
    ):
        if action == _PHONE:
            names = ["id", "number", "last_called_at", "waits_until"]
            phone = Phone.from_db(router.db_for_write(Phone), names, [pk, prefix, *times])
        elif action == _BREAKER:
            opened_at, next_try_at = times
            breakers[prefix] = CircuitBreaker(
                backend=prefix, failures=pk, opened_at=opened_at, next_try_at=next_try_at
            )
        elif channel:
            stopped.append(channel)
        else:
            found.append((len(prefix), action == Rule.Action.DENY, action))
    return Judgement(max(found)[2] if found else None, stopped, phone, breakers)


def check_allowed(judgement: Judgement) -> None:
    """Raise an error if a number must not be called.

    Rules take precedence over ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES``.

    Raises:
        PhoneNotAllowed: the same error whether or not the site knows the number.
    """
    denied = judgement.action == Rule.Action.DENY
    if denied or (judgement.action is None and not phones.is_allowed(judgement.phone.number)):
        raise PhoneNotAllowed(scope=Refusal.Scope.RULE)


_PHONE, _BREAKER = "phone", "breaker"


def _fitting(*, number: Any, country: Any, **prefixes: Any) -> list[QuerySet[Any, Any]]:
    rules = Rule.objects.filter(
        Q(prefix__in=list(prefixes.values())) | Q(country=country) | ~Q(channel="")
    )
    at = F("created_at")  # only to have as many columns as the others
    return [
        rules.annotate(a=at, b=at).values_list("action", "prefix", "channel", "pk", "a", "b"),
        Phone.objects.filter(number=number)
        .annotate(is_phone=Value(_PHONE), none=Value(""))
        .values_list("is_phone", "number", "none", "pk", "last_called_at", "waits_until"),
        CircuitBreaker.objects.filter(failures__gt=0)
        .annotate(is_breaker=Value(_BREAKER), none=Value(""))
        .values_list("is_breaker", "backend", "none", "failures", "opened_at", "next_try_at"),
    ]


_FITTING = Prepared(Rule, _fitting)
