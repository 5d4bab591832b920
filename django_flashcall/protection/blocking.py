"""What operators do to one number: block it, unblock it, let it try again."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from ..models import Phone, Rule


def block(phone: Phone, *, by: Any = None, note: str = "") -> bool:
    """Place no more calls to a number, by a rule that names it whole; effective at once.

    Args:
        phone: the number.
        by: the account of who blocks it, kept with the rule.
        note: why, at most 300 characters.

    Returns:
        False where it was blocked already; the older rule stays as it is.
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
    """Delete the rule of `block`; False where there was none. Rules for ranges stay."""
    deleted, _ = _rules().filter(prefix=phone.number).delete()
    return bool(deleted)


def let_try_again(phone: Phone) -> bool:
    """Forget a number's wrong codes and end its wait; False where there was nothing to end."""
    waiting = Phone.objects.filter(pk=phone.pk).exclude(failures=0, waits_until=None)
    return bool(waiting.update(failures=0, waits_until=None))


def with_blocked(phones: QuerySet[Phone]) -> QuerySet[Phone]:
    """Annotate numbers with `blocked`: a rule names the number, whole.

    Rules for ranges do not count: whoever may add them could find a masked number digit by digit.
    """
    return phones.annotate(blocked=Exists(_rules().filter(prefix=OuterRef("number"))))


def _rules() -> QuerySet[Rule]:
    return Rule.objects.filter(action=Rule.Action.DENY).exclude(prefix="")
