"""Queries that the ORM compiles once and that are executed often.

Most of the time of a start goes into building the same queries again and again. A `Prepared` query
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
from django.db.models import Model, QuerySet
from django.utils import timezone


class Prepared:
    """A query of one or more querysets, whose rows are returned one after the other.

    Args:
        model: the model; the database is the one that its rows are written to.
        build: returns the querysets, all with the same columns (``values_list``). It gets the
            options as positional arguments and a placeholder for each value by name. The
            placeholders must reach the query unchanged: calculate with values before.
    """

    def __init__(self, model: type[Model], build: Callable[..., list[QuerySet[Any, Any]]]) -> None:
        self.model = model
        self.build = build
        self._compiled: dict[Hashable, _Compiled] = {}

    def rows(
        self, *options: Hashable, **values: str | int | datetime | UUID
    ) -> list[tuple[Any, ...]]:
        """Execute the query and return its rows.

        Args:
            options: what the text of the query depends on, such as limits from the settings.
            values: the values of this execution.
        """
        alias = router.db_for_write(self.model)
        key = alias, options, *((name, type(value)) for name, value in values.items())
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(alias, self.build, options, values)
        return compiled.rows(connections[alias], values)


class _Compiled:
    """The text of a query and its parameters. It belongs to no connection: threads share it."""

    def __init__(
        self,
        alias: str,
        build: Callable[..., list[QuerySet[Any, Any]]],
        options: tuple[Hashable, ...],
        values: dict[str, Any],
    ) -> None:
        connection = connections[alias]
        marks = {name: _mark(place, value) for place, (name, value) in enumerate(values.items())}
        names = {_adapt(mark, connection): name for name, mark in marks.items()}
        self._parameters: list[tuple[str, Any]] = []
        texts = []
        for queryset in build(*options, **marks):
            compiler = queryset.query.get_compiler(alias)
            text, parameters = compiler.as_sql()
            texts.append(text)
            self._parameters += [(names.get(parameter, ""), parameter) for parameter in parameters]
        self._columns = [column for column, *_ in compiler.select]
        # Each in a subquery, because databases differ in what they accept between UNIONs.
        self._sql = " UNION ALL ".join(
            f"SELECT * FROM ({text}) part{place}"  # noqa: S608 - compiled by the ORM
            for place, text in enumerate(texts)
        )
        if len(texts) == 1:
            self._sql = texts[0]

    def rows(self, connection: BaseDatabaseWrapper, values: dict[str, Any]) -> list[Any]:
        adapted = {name: _adapt(value, connection) for name, value in values.items()}
        with connection.cursor() as cursor:
            cursor.execute(
                self._sql, [adapted.get(name, value) for name, value in self._parameters]
            )
            rows = cursor.fetchall()
        for place, column in enumerate(self._columns):
            for convert in (
                *connection.ops.get_db_converters(column),
                *column.get_db_converters(connection),
            ):
                rows = [
                    (*row[:place], convert(row[place], column, connection), *row[place + 1 :])
                    for row in rows
                ]
        return list(rows)


def _adapt(value: Any, connection: BaseDatabaseWrapper) -> Any:
    """Convert a value to what the driver of the database takes."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    return value


def _mark(place: int, value: Any) -> Any:
    """Return a placeholder of the type of a value, which occurs nowhere else."""
    match value:
        case str():
            return f"placeholder {place}"
        case datetime():
            moment = datetime(9000 + place, 1, 1, tzinfo=UTC)
            return moment if timezone.is_aware(value) else timezone.make_naive(moment, UTC)
        case UUID():
            return UUID(int=2**100 + place)
    return 2**30 + place
