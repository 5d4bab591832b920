"""Rules: numbers, ranges and countries to allow or deny, and channels to stop."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import router
from django.db.models import Case, Q, QuerySet, Value, When

from .. import phones
from ..exceptions import PhoneNotAllowed
from ..models import CircuitBreaker, Phone, Refusal, Rule
from ..prepared.queries import Parameter, Prepared
from ..prepared.records import NOTHING, Record, first_part, part


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is stored that decides whether and how a number is called.

    Attributes:
        action: the action of the rule that applies, or None.
        stopped: channels that are stopped.
        phone: the row of the number, with the fields that a call needs; a new one, not saved, if
            there is none.
        breakers: the circuit breakers of backends that failed last, by alias.
        is_owner: whether the number belongs to the account that was asked about.
    """

    action: str | None
    stopped: Collection[str]
    phone: Phone
    breakers: Mapping[str, CircuitBreaker]
    is_owner: bool


def judge(number: str) -> Judgement:
    """Find the rules for a number in E.164, its row and the circuit breakers, in one query."""
    return read(number, map(Record._make, _FITTING.rows(**values(number))))


def values(number: str, account: Any = None) -> dict[str, Parameter]:
    """Return the values that `parts` needs.

    Args:
        number: the number in E.164.
        account: the primary key of an account that may own it; None for none.
    """
    prefixes = {f"prefix{end}": number[:end] for end in range(2, len(number) + 1)}
    return {**prefixes, "number": number, "country": phones.country(number), "account": account}


def parts(values: Mapping[str, Any]) -> list[QuerySet[Any, Any]]:
    """Return the querysets that `read` needs."""
    number, account = values["number"], values["account"]
    prefixes = [value for name, value in values.items() if name.removeprefix("prefix").isdecimal()]
    rules = Rule.objects.filter(
        Q(prefix__in=prefixes) | Q(country=values["country"]) | ~Q(channel="")
    )
    is_owner = Case(When(owner=account, then=Value(1)), default=Value(0))
    phone = Phone.objects.filter(number=number)
    breakers = CircuitBreaker.objects.filter(failures__gt=0)
    return [
        first_part("rule", rules, "created_at", text="action", more="prefix", extra="channel"),
        part(
            "phone",
            phone,
            "last_called_at",
            number="pk",
            level=NOTHING if account is None else is_owner,
            second="waits_until",
            third="known_waits_until",
        ),
        part(
            "breaker",
            breakers,
            "opened_at",
            text="backend",
            number="failures",
            second="next_try_at",
        ),
    ]


def read(number: str, records: Iterable[Record]) -> Judgement:
    """Judge a number by the rows of `parts`. The longest prefix wins, then the country."""
    stopped, found = [], []
    phone, breakers, is_owner = Phone(number=number), {}, False
    for record in records:
        match record.of:
            case "phone":
                names = ["id", "number", "last_called_at", "waits_until", "known_waits_until"]
                row = [record.number, number, record.at, record.second, record.third]
                phone = Phone.from_db(router.db_for_write(Phone), names, row)
                is_owner = bool(record.level)
            case "breaker":
                breakers[record.text] = CircuitBreaker(
                    backend=record.text,
                    failures=record.number,
                    opened_at=record.at,
                    next_try_at=record.second,
                )
            case "rule" if record.extra:
                stopped.append(record.extra)
            case "rule":
                denies = record.text == Rule.Action.DENY
                found.append((len(record.more), denies, record.text))
    return Judgement(max(found)[2] if found else None, stopped, phone, breakers, is_owner)


def check_allowed(judgement: Judgement) -> None:
    """Raise an error if a number must not be called.

    Rules take precedence over ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES``.

    Raises:
        PhoneNotAllowed: the same error whether or not the site knows the number.
    """
    denied = judgement.action == Rule.Action.DENY
    if denied or (judgement.action is None and not phones.is_allowed(judgement.phone.number)):
        raise PhoneNotAllowed(scope=Refusal.Scope.RULE)


_FITTING = Prepared(Rule, lambda **values: parts(values))
