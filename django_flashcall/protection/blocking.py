"""Block a number, unblock it, or unlock it after wrong codes."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from ..models import Phone, Rule


def block(phone: Phone, *, by: Any = None, note: str = "") -> bool:
    """Block all calls to a number with a rule. It applies at once.

    Args:
        phone: the number.
        by: the user who blocks it, stored with the rule.
        note: the reason, at most 300 characters.

    Returns:
        False if it was blocked already; the existing rule does not change.
    """
    _, made = Rule.objects.get_or_create(
        action=Rule.Action.DENY,
        prefix=phone.number,
        country="",
        channel="",
        defaults={"note": note, "created_by": by},
    )
    return made


def unblock(phone: Phone) -> bool:
    """Delete the rule for this number; return False if there is none. Rules for ranges stay."""
    deleted, _ = _rules().filter(prefix=phone.number).delete()
    return bool(deleted)


def let_try_again(phone: Phone) -> bool:
    """Reset the wrong codes of a number and unlock it; return False if there was none."""
    free = {"failures": 0, "waits_until": None, "known_failures": 0, "known_waits_until": None}
    return bool(Phone.objects.filter(pk=phone.pk).exclude(**free).update(**free))


def with_blocked(phones: QuerySet[Phone]) -> QuerySet[Phone]:
    """Annotate phones with `blocked`: whether a rule denies this very number.

    Rules for ranges do not count: with them, users could find a masked number digit by digit.
    """
    return phones.annotate(blocked=Exists(_rules().filter(prefix=OuterRef("number"))))


def _rules() -> QuerySet[Rule]:
    return Rule.objects.filter(action=Rule.Action.DENY).exclude(prefix="")
