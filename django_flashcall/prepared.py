"""Statements that the ORM compiles once and that are executed often.

Otherwise most of the time of a start goes into building the same queries again. A `Prepared` query
is written with the ORM as usual, is compiled on its first use, and then only gets new values. One
query can read the rows of several tables, as the same columns (`part`). Private.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import CharField, F, Field, Func, Model, QuerySet, Value
from django.db.models.constants import OnConflict
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import InsertQuery, Query, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

Parameter = str | int | datetime | UUID | IPv4Address | IPv6Address | None


class Unknown(Func):
    """A value that the database does not know when it plans the query.

    A planner that knows how frequent a value is expects to find its rows soon in the index of
    times, and may read rows of months to find none. With this, it uses the index of the column.
    """

    template = "(SELECT %(expressions)s)"
    arity = 1

    def __init__(self, value: Any) -> None:
        super().__init__(Value(value, output_field=CharField()))


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


NOTHING = Value(None, output_field=Field())
"""What a column is that a table does not have."""


def part(of: str, rows: QuerySet[Any, Any], at: str, **columns: Any) -> QuerySet[Any, Any]:
    """Return a queryset whose rows are each a `Record`.

    The text of the query is kept short, with few parameters: the driver then caches it.

    Args:
        of: where they come from; a constant.
        rows: the queryset.
        at: a field with a time.
        columns: column of the record → the expression or the name of the field.
    """
    given = {"of": RawSQL(f"'{of}'", ()), "at": F(at), **columns}  # noqa: S611 - a constant
    names = "abcdefghijk"  # not those of fields; what counts is their order
    found = {
        name: F(value) if isinstance(value := given.get(column, NOTHING), str) else value
        for name, column in zip(names, Record._fields, strict=True)
    }
    selected: QuerySet[Any, Any] = rows.annotate(**found).values_list(*found)
    return selected


def first_part(of: str, rows: QuerySet[Any, Any], at: str, **columns: Any) -> QuerySet[Any, Any]:
    """Return `part` without NULL: PostgreSQL wants to know the types of all columns."""
    times = dict.fromkeys(("second", "third", "fourth", "fifth"), at)
    numbers = dict.fromkeys(("number", "level"), Value(0))
    texts = dict.fromkeys(("text", "more", "extra"), Value(""))
    return part(of, rows, at, **{**times, **numbers, **texts, **columns})


class Prepared:
    """A query of one or more querysets, whose rows are returned one after the other.

    Args:
        model: the model; the database is the one that its rows are written to.
        build: returns the querysets, all with the same columns (``values_list``). It gets the
            options as positional arguments and a placeholder for each value by name. The
            placeholders must reach the query unchanged: calculate with values before.
    """

    def __init__(self, model: type[Model], build: Callable[..., Any]) -> None:
        self.model = model
        self.build = build
        self._statements: dict[Hashable, _Statement] = {}

    def rows(self, *options: Hashable, **values: Parameter) -> list[tuple[Any, ...]]:
        """Execute the query and return its rows.

        Args:
            options: what the text of the query depends on, such as limits from the settings.
            values: the values of this execution.
        """
        alias = router.db_for_write(self.model)
        return self._statement(alias, options, values).rows(connections[alias], values)

    def _statement(
        self, alias: str, options: tuple[Hashable, ...], values: dict[str, Parameter]
    ) -> _Statement:
        kinds = ((n, type(value) if _has_mark(value) else value) for n, value in values.items())
        key = alias, options, *kinds
        if (statement := self._statements.get(key)) is None:
            marks = {
                name: _mark(place, value) for place, (name, value) in enumerate(values.items())
            }
            compilers = self._compilers(alias, options, marks)
            statement = self._statements[key] = _Statement(connections[alias], compilers, marks)
        return statement

    def _compilers(
        self, alias: str, options: tuple[Hashable, ...], marks: dict[str, Any]
    ) -> list[SQLCompiler]:
        queries = [found.query for found in self.build(*options, **marks)]
        if len(queries) > 1:
            queries = list(map(_shorten, queries))
        return [query.get_compiler(alias) for query in queries]


class PreparedUpdate(Prepared):
    """An ``UPDATE``. `build` returns a queryset and the changes, by field."""

    def execute(self, *options: Hashable, **values: Parameter) -> int:
        """Execute the update and return the number of rows; see `Prepared.rows`."""
        alias = router.db_for_write(self.model)
        statement = self._statement(alias, options, values)
        with connections[alias].cursor() as cursor:
            statement.execute(cursor, values)
            return int(cursor.rowcount)

    def _compilers(
        self, alias: str, options: tuple[Hashable, ...], marks: dict[str, Any]
    ) -> list[SQLCompiler]:
        queryset, changes = self.build(*options, **marks)
        query: UpdateQuery = queryset.query.chain(UpdateQuery)
        query.add_update_values(changes)
        return [query.get_compiler(alias)]


class PreparedInsert:
    """An ``INSERT`` of one row, with the signals that `Model.save` sends.

    Args:
        model: the model; the database is the one that its rows are written to.
        ignore_conflicts: a row whose unique values exist is not an error.
    """

    def __init__(self, model: type[Model], *, ignore_conflicts: bool = False) -> None:
        self.model = model
        self.on_conflict = OnConflict.IGNORE if ignore_conflicts else None
        fields = model._meta.local_concrete_fields
        self.has_generated_key = not model._meta.pk.has_default()
        self.fields = [f for f in fields if not (f.primary_key and self.has_generated_key)]
        self._texts: dict[str, str] = {}

    def execute(self, row: Model) -> bool:
        """Insert a row, which gets its primary key; return False if it exists already.

        Args:
            row: an instance of the model, not saved.
        """
        alias = router.db_for_write(self.model, instance=row)
        connection = connections[alias]
        message = {"sender": self.model, "instance": row, "raw": False, "using": alias}
        pre_save.send(**message, update_fields=None)
        text = self._texts.get(alias) or self._compile(connection, row)
        values = [
            field.get_db_prep_save(field.pre_save(row, True), connection) for field in self.fields
        ]
        with connection.cursor() as cursor:
            cursor.execute(text, values)
            if not self.has_generated_key:
                is_new = bool(cursor.rowcount)
            elif connection.features.can_return_columns_from_insert:
                returned = cursor.fetchone()  # before this, SQLite does not count rows
                is_new = returned is not None
                row.pk = returned and returned[0]
            else:
                is_new = bool(cursor.rowcount)
                row.pk = cursor.lastrowid if is_new else None
        if not is_new:
            return False
        row._state.adding, row._state.db = False, alias
        post_save.send(**message, created=True, update_fields=None)
        return True

    def _compile(self, connection: BaseDatabaseWrapper, row: Model) -> str:
        query = InsertQuery(self.model, on_conflict=self.on_conflict)
        query.insert_values(self.fields, [row])
        compiler = query.get_compiler(connection=connection)
        if self.has_generated_key:
            compiler.returning_fields = self.model._meta.db_returning_fields
        ((text, _values),) = compiler.as_sql()
        self._texts[connection.alias] = text
        return str(text)


class _Statement:
    """The text of a statement and its parameters. Threads share it: it keeps no connection."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        compilers: list[SQLCompiler],
        marks: dict[str, Any],
    ) -> None:
        names = {
            _key(_adapt(mark, connection)): name for name, mark in marks.items() if _has_mark(mark)
        }
        self._parameters: list[tuple[str, Any]] = []
        texts = []
        for compiler in compilers:
            text, parameters = compiler.as_sql()
            texts.append(text)
            self._parameters += [(names.get(_key(value), ""), value) for value in parameters]
        # A column can be NULL in some parts: any other part knows how to convert its values.
        selected = [[column for column, *_ in compiler.select or ()] for compiler in compilers]
        converted: dict[int, Any] = {}
        for columns in selected:
            for place, column in enumerate(columns):
                if _converters(column, connection):
                    converted.setdefault(place, column)
        self._converted = list(converted.items())
        if len(texts) > 1 and connection.features.supports_parentheses_in_compound:
            texts = [f"({text})" for text in texts]
        elif len(texts) > 1:  # SQLite
            texts = [f"SELECT * FROM ({text})" for text in texts]  # noqa: S608
        self._sql = " UNION ALL ".join(texts)

    def execute(self, cursor: CursorWrapper, values: dict[str, Parameter]) -> None:
        adapted = {name: _adapt(value, cursor.db) for name, value in values.items()}
        cursor.execute(self._sql, [adapted.get(name, value) for name, value in self._parameters])

    def rows(
        self, connection: BaseDatabaseWrapper, values: dict[str, Parameter]
    ) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            self.execute(cursor, values)
            rows = cursor.fetchall()
        for place, column in self._converted:
            for convert in _converters(column, connection):
                rows = [
                    (*row[:place], convert(row[place], column, connection), *row[place + 1 :])
                    for row in rows
                ]
        return list(rows)


def _shorten(query: Query) -> Query:
    """Return a query that names its table only once; drivers cache short queries only."""
    short = query.chain()
    short.change_aliases({short.get_initial_alias(): "t"})
    short.alias_map = {"t": short.alias_map["t"], **short.alias_map}  # the first is the base
    return short.chain()


def _converters(column: Any, connection: BaseDatabaseWrapper) -> list[Callable[..., Any]]:
    """Return the functions that convert a column's values from those of the driver."""
    return [
        *connection.ops.get_db_converters(column),
        *column.get_db_converters(connection),
    ]


def _adapt(value: Any, connection: BaseDatabaseWrapper) -> Any:
    """Convert a value to what the driver of the database takes."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    if isinstance(value, (IPv4Address, IPv6Address)):
        return connection.ops.adapt_ipaddressfield_value(str(value))
    return value


def _key(value: Any) -> tuple[bool, bool, str]:
    """Return what a parameter is found by: drivers have types of their own, not all comparable."""
    return isinstance(value, int), isinstance(value, str), str(value)


def is_parameter(value: Any) -> bool:
    """Return True if a value can be one of a prepared statement."""
    return value is None or isinstance(value, (str, int, datetime, UUID, IPv4Address, IPv6Address))


def _has_mark(value: Parameter) -> bool:
    """Return False for the few values that become part of the text: None, True and False."""
    return value is not None and not isinstance(value, bool)


def _mark(place: int, value: Any) -> Any:
    """Return a placeholder of the type of a value, which occurs nowhere else."""
    if not _has_mark(value):
        return value
    match value:
        case str():
            return f"placeholder {place}"
        case datetime():
            moment = datetime(9000 + place, 1, 1, tzinfo=UTC)
            return moment if timezone.is_aware(value) else timezone.make_naive(moment, UTC)
        case UUID():
            return UUID(int=2**100 + place)
        case IPv4Address() | IPv6Address():
            return type(value)(2**31 + place)
    return 32_000 + place  # within the range of a small integer, or Django finds nothing
