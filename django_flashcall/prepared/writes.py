"""Statements that write. PostgreSQL executes several of them as one.

Each statement costs a round trip to the database, and a transaction two more. PostgreSQL takes
several statements as one with common table expressions that write (PostgreSQL manual, section
7.8.4), and a single statement is a transaction by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model
from django.db.models.constants import OnConflict
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler

from ..database_errors import transact
from .queries import Parameter, Prepared

FIRST = '"w0"'
"""What the first statement is called in those that are executed with it."""

Text = tuple[str, list[Any]]
"""A statement and its parameters."""


class Write(Protocol):
    """A prepared statement and the values to execute it with."""

    model: type[Model]

    def execute(self) -> int:
        """Execute it, and return the number of rows that it wrote."""

    def can_join(self) -> bool:
        """Return True if it can be a part of another statement."""

    def as_sql(self, connection: BaseDatabaseWrapper, first: Write | None) -> Text:
        """Return its text, which returns the primary keys, and its parameters.

        Args:
            connection: the connection to PostgreSQL.
            first: the statement that must have written a row; None if this is the first.
        """

    def keep(self, key: Any) -> None:
        """Keep the primary key of a row that it wrote as a part of another statement."""


def execute_all(
    first: Write, *others: Write, durable: bool = False, savepoint: bool = True
) -> list[bool]:
    """Execute several statements, unless the first one writes nothing. All or none is stored.

    They must not depend on each other, but rows can refer to the row that the first one inserts.
    On PostgreSQL, they are a single statement, in which none sees what another one wrote.

    Args:
        first: it writes one row or none, and is executed first.
        others: executed in this order on other databases.
        durable, savepoint: as in `transaction.atomic`. Without a savepoint, the caller's
            transaction must be rolled back after an error.

    Returns:
        for each statement, whether it wrote anything; empty if the first did not.
    """
    writes = first, *others
    using = router.db_for_write(first.model)
    connection = connections[using]
    is_one = connection.vendor == "postgresql" and all(
        write.can_join() and router.db_for_write(write.model) == using for write in writes
    )
    run = partial(_as_one, connection, writes) if is_one else partial(_in_turn, writes)
    if connection.in_atomic_block and not (durable or savepoint):
        return run()
    return transact(run, using, durable=durable, is_single=is_one)


def _in_turn(writes: tuple[Write, ...]) -> list[bool]:
    first, *others = writes
    return [True, *(bool(write.execute()) for write in others)] if first.execute() else []


def _as_one(connection: BaseDatabaseWrapper, writes: tuple[Write, ...]) -> list[bool]:
    parts: list[str] = []
    results: list[str] = []
    values: list[Any] = []
    for place, write in enumerate(writes):
        text, given = write.as_sql(connection, writes[0] if place else None)
        parts.append(f'"w{place}" AS ({text})')
        results.append(f'(SELECT array_agg("key") FROM "w{place}")')  # noqa: S608
        values += given
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} SELECT {', '.join(results)}", values)
        keys = cursor.fetchone()
    if not keys[0]:
        return []
    for write, written in zip(writes, keys, strict=True):
        if written:
            write.keep(written[0])
    return [bool(written) for written in keys]


class PreparedUpdate(Prepared):
    """An ``UPDATE``. `build` returns a queryset and the changes, by field."""

    def execute(self, *options: Hashable, **values: Parameter) -> int:
        """Execute the update and return the number of rows; see `Prepared.rows`."""
        return self.bind(*options, **values).execute()

    def bind(self, *options: Hashable, **values: Parameter) -> Update:
        """Return it with values, for `execute_all`; see `Prepared.rows`."""
        return Update(self, options, values)

    def _compilers(
        self, alias: str, options: tuple[Hashable, ...], marks: dict[str, Any]
    ) -> list[SQLCompiler]:
        queryset, changes = self.build(*options, **marks)
        query: UpdateQuery = queryset.query.chain(UpdateQuery)
        query.add_update_values(changes)
        return [query.get_compiler(alias)]


class Update:
    """A prepared update with values; a `Write`."""

    def __init__(
        self, update: PreparedUpdate, options: tuple[Hashable, ...], values: dict[str, Parameter]
    ) -> None:
        self.update, self.options, self.values = update, options, values
        self.model = update.model

    def execute(self) -> int:
        alias = router.db_for_write(self.model)
        statement = self.update.statement(alias, self.options, self.values)
        with connections[alias].cursor() as cursor:
            statement.execute(cursor, self.values)
            return int(cursor.rowcount)

    def can_join(self) -> bool:
        return True

    def as_sql(self, connection: BaseDatabaseWrapper, first: Write | None) -> Text:
        statement = self.update.statement(connection.alias, self.options, self.values)
        gate = f" AND EXISTS (SELECT FROM {FIRST})" if first else ""
        return statement.sql + gate + _returning(self.model), statement.bind(
            connection, self.values
        )

    def keep(self, key: Any) -> None:
        pass


class Read(NamedTuple):
    """The result of `update_and_read`."""

    rows: list[tuple[Any, ...]]
    """The rows of the query."""
    updated: tuple[Any, ...] | None
    """Fields of the updated row; None if the query was executed after the update."""


def update_and_read(
    update: Update,
    fields: Sequence[str],
    query: Prepared,
    options: tuple[Hashable, ...],
    values: dict[str, Parameter],
) -> Read | None:
    """Execute an update of one row, and then a query. On PostgreSQL, they are a single statement.

    In a single statement, the query reads what was stored before it began. If the update had to
    wait for another transaction, that is out of date. Where that transaction has changed some of
    the fields, they tell.

    Args:
        update: the update.
        fields: fields to return of the updated row.
        query: the query.
        options, values: see `Prepared.rows`.

    Returns:
        None if nothing was updated.
    """
    using = router.db_for_write(query.model)
    connection = connections[using]
    if connection.vendor != "postgresql" or router.db_for_write(update.model) != using:
        return Read(query.rows(*options, **values), None) if update.execute() else None
    statement = query.statement(using, options, values)
    names = {field.name: f'"{field.column}"' for field in update.model._meta.concrete_fields}
    columns = [names[field] for field in fields]
    text, given = update.as_sql(connection, None)  # ends with what is returned: the key
    also = ", ".join(f"{FIRST}.{column}" for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH {FIRST} AS ({', '.join([text, *columns])}) "  # noqa: S608
            f'SELECT "read".*, {also} FROM {FIRST} '
            f'LEFT JOIN (SELECT TRUE, "rows".* FROM ({statement.sql}) "rows") "read" ON TRUE',
            [*given, *statement.bind(connection, values)],
        )
        found = cursor.fetchall()
    if not found:
        return None
    rows = [row[1 : -len(columns)] for row in found if row[0]]  # else, the query found nothing
    return Read(statement.convert(connection, rows), found[0][-len(columns) :])


class Place(enum.Enum):
    """Where a statement stands."""

    ALONE = enum.auto()
    """Nothing is executed with it. It returns the key that the database gives."""
    FIRST = enum.auto()
    """It takes its values as they are."""
    LATER = enum.auto()
    """It writes only if the first one did."""


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
        self._texts: dict[Hashable, str] = {}

    def execute(self, row: Model) -> bool:
        """Insert a row, which gets its primary key; return False if it exists already.

        Args:
            row: an instance of the model, not saved.
        """
        return bool(self.bind(row).execute())

    def bind(self, row: Model) -> Write:
        """Return it with a row, for `execute_all`. The row can refer to one not inserted yet."""
        return _Insert(self, row)

    def text(
        self, connection: BaseDatabaseWrapper, shown: tuple[str | None, ...], place: Place
    ) -> str:
        """Return the text of the statement.

        Args:
            connection: the connection.
            shown: what stands for each field: ``%s`` or a constant; None to leave it out.
            place: whether it stands alone, is the first of several, or comes after the first.
        """
        key = connection.alias, shown, place
        if key not in self._texts:
            given = {f: text for f, text in zip(self.fields, shown, strict=True) if text}
            self._texts[key] = self._compile(connection, given, place)
        return self._texts[key]

    def _query(self) -> InsertQuery:
        return InsertQuery(self.model, on_conflict=self.on_conflict)

    def _compile(
        self, connection: BaseDatabaseWrapper, given: dict[Field[Any, Any], str], place: Place
    ) -> str:
        query = self._query()
        query.insert_values(list(given), [self.model()])
        compiler = query.get_compiler(connection=connection)
        if self.has_generated_key and place is Place.ALONE:
            compiler.returning_fields = self.model._meta.db_returning_fields
        ((text, _values),) = compiler.as_sql()
        marks = f"VALUES ({', '.join(['%s'] * len(given))})"
        begin, found, end = text.partition(marks)
        assert found, text  # noqa: S101 - Django writes it so
        chosen = ", ".join(given.values())
        if place is Place.LATER:
            return f"{begin}SELECT {chosen} FROM {FIRST}{end}"  # noqa: S608
        return f"{begin}VALUES ({chosen}){end}"


class PreparedAdd(PreparedInsert):
    """An ``INSERT`` of a row; if it exists already, a number is added to that of the row.

    It sends no signals.

    Args:
        model: the model.
        keys: the fields of a unique constraint.
        number: the field of the number.
    """

    def __init__(self, model: type[Model], keys: Sequence[str], number: str) -> None:
        super().__init__(model)
        self.on_conflict = OnConflict.UPDATE
        self.keys, self.number = keys, number

    def bind(self, row: Model) -> Write:
        """See `PreparedInsert.bind`."""
        return _Add(self, row)

    def _query(self) -> InsertQuery:
        fields = {field.name: field for field in self.fields}
        return InsertQuery(
            self.model,
            on_conflict=self.on_conflict,
            update_fields=[fields[self.number]],
            unique_fields=[fields[name] for name in self.keys],
        )

    def _compile(
        self, connection: BaseDatabaseWrapper, given: dict[Field[Any, Any], str], place: Place
    ) -> str:
        text = super()._compile(connection, given, place)
        quote = connection.ops.quote_name
        (column,) = [quote(f.column or "") for f in self.fields if f.name == self.number]
        begin, found, end = text.rpartition(f"{column} = ")
        assert found, text  # noqa: S101 - Django writes it so
        return f"{begin}{found}{quote(self.model._meta.db_table)}.{column} + {end}"


class _Insert:
    def __init__(self, insert: PreparedInsert, row: Model) -> None:
        self.insert, self.row = insert, row
        self.model = insert.model

    def execute(self) -> int:
        insert, row = self.insert, self.row
        alias = router.db_for_write(self.model, instance=row)
        connection = connections[alias]
        self._begin()
        message = {"sender": self.model, "instance": row, "raw": False, "using": alias}
        pre_save.send(**message, update_fields=None)
        shown, values = self._values(connection, None)
        with connection.cursor() as cursor:
            cursor.execute(insert.text(connection, shown, Place.ALONE), values)
            key = None
            if not insert.has_generated_key:
                is_new = bool(cursor.rowcount)
            elif connection.features.can_return_columns_from_insert:
                returned = cursor.fetchone()  # before this, SQLite does not count rows
                is_new = returned is not None
                key = returned and returned[0]
            else:
                is_new = bool(cursor.rowcount)
                key = cursor.lastrowid
        if not is_new:
            return 0
        self.keep(key)
        post_save.send(**message, created=True, update_fields=None)
        return 1

    def can_join(self) -> bool:
        # What listens to the signals expects to be called between the statements.
        return not (pre_save.has_listeners(self.model) or post_save.has_listeners(self.model))

    def as_sql(self, connection: BaseDatabaseWrapper, first: Write | None) -> Text:
        shown, values = self._values(connection, first)
        text = self.insert.text(connection, shown, Place.LATER if first else Place.FIRST)
        return text + _returning(self.model), values

    def keep(self, key: Any) -> None:
        row = self.row
        if self.insert.has_generated_key:
            row.pk = key
        row._state.adding, row._state.db = False, router.db_for_write(self.model, instance=row)
        self._refer()

    def _begin(self) -> None:
        """Make the row what it was before it was inserted, if that was rolled back."""
        if self.insert.has_generated_key:
            self.row.pk = None
        self.row._state.adding = True
        self._refer()

    def _refer(self) -> None:
        """Refer to rows that were inserted since the foreign keys were set."""
        for field in self.insert.fields:
            other = _related(self.row, field)
            if other is not None and getattr(self.row, field.attname) != other.pk:
                setattr(self.row, field.name, other)

    def _values(
        self, connection: BaseDatabaseWrapper, first: Write | None
    ) -> tuple[tuple[str | None, ...], list[Any]]:
        """Return what stands for each field, and the parameters: constants are none of them."""
        row = self.row
        shown: list[str | None] = []
        values: list[Any] = []
        for field in self.insert.fields:
            value = field.pre_save(row, True)
            if (other := _related(row, field)) is not None:
                if isinstance(first, _Insert) and other is first.row:
                    shown.append(f'{FIRST}."key"')
                    continue
                value = other.pk  # also if it was inserted again, after a rollback
            text = _common(value)
            # The database refuses NULL; MySQL can fill in a column that is left out.
            shown.append("NULL" if text is None and not field.null else text)
            if text == "%s":
                values.append(field.get_db_prep_save(value, connection))
        return tuple(shown), values


class _Add(_Insert):
    def execute(self) -> int:
        connection = connections[router.db_for_write(self.model)]
        shown, values = self._values(connection, None)
        with connection.cursor() as cursor:
            cursor.execute(self.insert.text(connection, shown, Place.FIRST), values)
        return 1

    def can_join(self) -> bool:
        return True

    def keep(self, key: Any) -> None:
        pass


def _related(row: Model, field: Field[Any, Any]) -> Model | None:
    """Return the instance that a foreign key was set to, if it is one and was set so."""
    return row._state.fields_cache.get(field.name) if field.is_relation else None


def _common(value: Any) -> str | None:
    """Return the text of a value that most rows have; None for NULL, ``%s`` for any other."""
    if value is None:
        return None
    if value is False:
        return "FALSE"
    if isinstance(value, str) and not value:
        return "''"
    return "%s"


def _returning(model: type[Model]) -> str:
    return f' RETURNING "{model._meta.pk.column}" AS "key"'
