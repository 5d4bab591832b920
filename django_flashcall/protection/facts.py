"""What is stored that decides whether a number is called, read in one query."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import QuerySet, Subquery

from .. import phones
from ..conf import conf
from ..models import Call, Phone
from ..prepared.queries import Prepared
from ..prepared.records import Record
from . import budget, limits, rules, windows
from .visitors import Source


class Facts(NamedTuple):
    """What is stored about a number and the source of a request."""

    judgement: rules.Judgement
    """The rules, the row of the number and the circuit breakers."""
    usage: limits.Usage
    """How far the limits are used."""


def look(number: str, source: Source, now: datetime, *, account: Any = None) -> Facts:
    """Read all of it.

    Args:
        number: the number in E.164.
        source: the source of the request.
        now: time of the request.
        account: the primary key of the account that asks; None for none.
    """
    counted = list(limits.windows_of(source))
    total = conf.CALLS_TOTAL
    row = {"prefix": phones.prefix(number), **source._asdict()}
    values = rules.values(number, account) | windows.values(counted, row, now)
    if total is not None:
        values["spent_since"] = budget.spent_since(total, now)
    rows = _FACTS.rows(*map(windows.shape, counted), **values)
    records = list(map(Record._make, rows))
    judgement = rules.read(number, records)
    usage = limits.read(counted, records, total)
    return Facts(judgement, usage._replace(called_at=judgement.phone.last_called_at))


def _select(*shapes: tuple[int, tuple[str, ...]], **values: Any) -> list[QuerySet[Any, Any]]:
    phone = Phone.objects.filter(number=values["number"]).values("pk")[:1]
    return [*rules.parts(values), *limits.parts(shapes, {**values, "phone": Subquery(phone)})]


_FACTS = Prepared(Call, _select)
