"""Queries that are compiled once. They are written with the ORM as usual."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Model
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

Parameter = str | int | Decimal | datetime | UUID | IPv4Address | IPv6Address | None


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
        self._statements: dict[Hashable, Statement] = {}

    def rows(self, *options: Hashable, **values: Parameter) -> list[tuple[Any, ...]]:
        """Execute the query and return its rows.

        Args:
            options: what the text of the query depends on, such as limits from the settings.
            values: the values of this execution.
        """
        alias = router.db_for_write(self.model)
        return self.statement(alias, options, values).rows(connections[alias], values)

    def statement(
        self, alias: str, options: tuple[Hashable, ...], values: dict[str, Parameter]
    ) -> Statement:
        """Return the compiled statement for values of these types.

        Args:
            alias: the database.
            options, values: see `rows`.
        """
        kinds = ((n, type(value) if _has_mark(value) else value) for n, value in values.items())
        key = alias, options, *kinds
        if (statement := self._statements.get(key)) is None:
            marks = {
                name: _mark(place, value) for place, (name, value) in enumerate(values.items())
            }
            compilers = self._compilers(alias, options, marks)
            statement = self._statements[key] = Statement(connections[alias], compilers, marks)
        return statement

    def _compilers(
        self, alias: str, options: tuple[Hashable, ...], marks: dict[str, Any]
    ) -> list[SQLCompiler]:
        queries = [_shorten(found.query) for found in self.build(*options, **marks)]
        return [query.get_compiler(alias) for query in queries]


class Statement:
    """A compiled statement. Threads share it: it keeps no connection."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        compilers: list[SQLCompiler],
        marks: dict[str, Any],
    ) -> None:
        names = {
            _key(_adapt(mark, connection)): name for name, mark in marks.items() if _has_mark(mark)
        }
        converted_marks = {key[-1]: name for key, name in names.items()}
        self._parameters: list[tuple[str, Any]] = []
        texts = []
        for compiler in compilers:
            text, parameters = compiler.as_sql()
            named = [(names.get(_key(value), ""), value) for value in parameters]
            for name, value in named:
                if not name and (changed := converted_marks.get(_key(value)[-1])):
                    # Otherwise, the placeholder would be stored or looked for.
                    raise TypeError(f"The field of {changed!r} takes another type of value.")
            shown = ["%s" if name else _inlined(value) for name, value in named]
            texts.append(_fill(text, shown))
            self._parameters += [
                each for each, mark in zip(named, shown, strict=True) if mark == "%s"
            ]
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
        self.sql = " UNION ALL ".join(texts)

    def bind(self, connection: BaseDatabaseWrapper, values: dict[str, Parameter]) -> list[Any]:
        """Return the parameters."""
        adapted = {name: _adapt(value, connection) for name, value in values.items()}
        return [adapted.get(name, value) for name, value in self._parameters]

    def execute(self, cursor: CursorWrapper, values: dict[str, Parameter]) -> None:
        cursor.execute(self.sql, self.bind(cursor.db, values))

    def rows(
        self, connection: BaseDatabaseWrapper, values: dict[str, Parameter]
    ) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            self.execute(cursor, values)
            return self.convert(connection, cursor.fetchall())

    def convert(
        self, connection: BaseDatabaseWrapper, rows: list[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """Return rows with values as the ORM returns them."""
        for place, column in self._converted:
            for convert in _converters(column, connection):
                rows = [
                    (*row[:place], convert(row[place], column, connection), *row[place + 1 :])
                    for row in rows
                ]
        return list(rows)


def _inlined(value: Any) -> str:
    """Return the text of a value that is the same each time; ``%s`` if it must be a parameter.

    Drivers convert each parameter anew, in Python.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"\w*", value, re.ASCII):
        return f"'{value}'"
    return "%s"


def _fill(text: str, shown: list[str]) -> str:
    """Return a text with something else in place of each ``%s``."""
    pieces = text.split("%s")
    return "".join(map("".join, zip(pieces, [*shown, ""], strict=True)))


def _shorten(query: Query) -> Query:
    """Return a query that names each table only once; drivers cache short queries only."""
    short = query.chain()
    short.get_initial_alias()
    short.change_aliases({name: f"t{place}" for place, name in enumerate(short.alias_map)})
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
    if isinstance(value, Decimal):
        return connection.ops.adapt_decimalfield_value(value)
    if isinstance(value, (IPv4Address, IPv6Address)):
        return connection.ops.adapt_ipaddressfield_value(str(value))
    return value


def _key(value: Any) -> tuple[bool, bool, str]:
    """Return what a parameter is found by: drivers have types of their own, not all comparable."""
    text = f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
    return isinstance(value, int), isinstance(value, str), text


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
        case Decimal():
            return Decimal(32_000 + place)
        case UUID():
            return UUID(int=2**100 + place)
        case IPv4Address() | IPv6Address():
            return type(value)(2**31 + place)
    return 32_000 + place  # within the range of a small integer, or Django finds nothing
