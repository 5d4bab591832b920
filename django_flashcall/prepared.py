"""Statements that the ORM compiles once and that are executed often.

Otherwise most of the time of a start goes into building the same queries again. A `Prepared` query
is written with the ORM as usual, is compiled on its first use, and then only gets new values.
Private.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import CharField, Func, Model, Value
from django.db.models.sql import UpdateQuery
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

Parameter = str | int | datetime | UUID | None


class Unknown(Func):
    """A value that the database does not know when it plans the query.

    A planner that knows how frequent a value is expects to find its rows soon in the index of
    times, and may read rows of months to find none. With this, it uses the index of the column.
    """

    template = "(SELECT %(expressions)s)"
    arity = 1

    def __init__(self, value: Any) -> None:
        super().__init__(Value(value, output_field=CharField()))


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
        return [found.query.get_compiler(alias) for found in self.build(*options, **marks)]


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


class _Statement:
    """The text of a statement and its parameters. Threads share it: it keeps no connection."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        compilers: list[SQLCompiler],
        marks: dict[str, Any],
    ) -> None:
        names = {_adapt(mark, connection): name for name, mark in marks.items() if _has_mark(mark)}
        self._parameters: list[tuple[str, Any]] = []
        texts = []
        for compiler in compilers:
            text, parameters = compiler.as_sql()
            texts.append(text)
            self._parameters += [(names.get(parameter, ""), parameter) for parameter in parameters]
        columns = enumerate(column for column, *_ in compilers[-1].select or ())
        self._converted = [(n, column) for n, column in columns if _converters(column, connection)]
        # Each in a subquery, because databases differ in what they accept between UNIONs.
        self._sql = " UNION ALL ".join(
            f"SELECT * FROM ({text}) part{place}"  # noqa: S608 - compiled by the ORM
            for place, text in enumerate(texts)
        )
        if len(texts) == 1:
            self._sql = texts[0]

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
    return value


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
    return 32_000 + place  # within the range of a small integer, or Django finds nothing
