"""Parts of prepared queries: hidden values, and rows of several tables with the same columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, overload

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, DateTimeField, F, Field, Func, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.sql.compiler import SQLCompiler


class Unknown(Func):
    """A value that the database does not know when it plans the query.

    A planner that knows how frequent a value is expects to find its rows soon in the index of
    times, and may read rows of months to find none. With this, it uses the index of the column.
    """

    template = "(SELECT %(expressions)s)"
    arity = 1

    def __init__(self, value: Any) -> None:
        super().__init__(Value(value, output_field=CharField()))


class Seconds(Func):
    """The seconds since 1970 of a time, as `seconds_of` returns them.

    PostgreSQL calculates them, because numbers are much faster to read than times.
    """

    template = "%(expressions)s"
    arity = 1
    output_field = DateTimeField()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **options: Any
    ) -> tuple[str, Any]:
        kind = "timestamptz" if settings.USE_TZ else "timestamp"
        template = f"DATE_PART('epoch', %(expressions)s::{kind})"
        return super().as_sql(compiler, connection, template=template, **options)

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Callable[..., Any]]:
        if connection.vendor == "postgresql":
            return []
        return [*super().get_db_converters(connection), lambda value, *_: seconds_of(value)]


@overload
def seconds_of(time: datetime) -> float: ...


@overload
def seconds_of(time: None) -> None: ...


def seconds_of(time: datetime | None) -> float | None:
    """Return the seconds since 1970 of a time; without a time zone, those of the same UTC time.

    So differences of times without time zones are those that Python calculates.
    """
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


class Integer(Field):  # type: ignore[type-arg]
    """What an integer is: drivers of PostgreSQL return integers, so that nothing is converted."""

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Callable[..., Any]]:
        if connection.vendor == "postgresql":
            return []
        # MariaDB can return decimals for the rows of a UNION.
        return [lambda value, *_: None if value is None else int(value)]


class Record(NamedTuple):
    """A row of a query that reads several tables. What the columns mean depends on the table.

    Columns that a table does not have are None.
    """

    of: str
    """Where it comes from."""
    text: str
    more: str
    extra: str
    number: int
    level: int
    at: datetime
    second: datetime | None
    third: datetime | None
    fourth: datetime | None
    fifth: datetime | None
    seconds: float


NOTHING = Value(None, output_field=Field())
"""What a column is that a table does not have."""


def part(
    of: str, rows: QuerySet[Any, Any], at: str | Value = NOTHING, **columns: Any
) -> QuerySet[Any, Any]:
    """Return a queryset whose rows are each a `Record`.

    The text of the query is kept short, with few parameters: the driver then caches it.

    Args:
        of: where they come from; a constant.
        rows: the queryset.
        at: the name of a field with a time.
        columns: column of the record → the expression or the name of the field.
    """
    given = {"of": RawSQL(f"'{of}'", ()), "at": at, **columns}  # noqa: S611 - a constant
    names = "abcdefghijkl"  # not those of fields; what counts is their order
    found = {
        name: F(value) if isinstance(value := given.get(column, NOTHING), str) else value
        for name, column in zip(names, Record._fields, strict=True)
    }
    selected: QuerySet[Any, Any] = rows.annotate(**found).values_list(*found)
    return selected


def first_part(of: str, rows: QuerySet[Any, Any], at: str, **columns: Any) -> QuerySet[Any, Any]:
    """Return `part` without NULL: PostgreSQL wants to know the types of all columns."""
    times = dict.fromkeys(("second", "third", "fourth", "fifth"), at)
    numbers = dict.fromkeys(("number", "level"), Value(0, output_field=Integer()))
    texts = dict.fromkeys(("text", "more", "extra"), Value(""))
    return part(of, rows, at, seconds=Seconds(at), **{**times, **numbers, **texts, **columns})
