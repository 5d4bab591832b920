"""Errors of the database: which ones pass, which ones a retry mends, and what visitors are told.

Locked, full, gone, restarted, too busy: all of them pass, and none is the visitor's fault. Other
errors of the database, such as a missing table, are bugs and are not touched here.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from django.db import (
    Error,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    transaction,
)

from .exceptions import Unavailable

logger = logging.getLogger("django_flashcall")

Result = TypeVar("Result")

TRIES = 3
"""How often a transaction is tried."""

LONGEST_PAUSE = 0.1
"""Maximum seconds between two tries; random, so that the same transactions do not meet again."""

ROLLED_BACK = frozenset(
    {
        "40001",  # PostgreSQL: serialization failure
        "40P01",  # PostgreSQL: deadlock
        "1213",  # MySQL: deadlock
        "SQLITE_BUSY_SNAPSHOT",  # another transaction wrote since this one read
    }
)
"""Errors after which a transaction is certainly rolled back, and a retry can succeed.

A connection that is lost during the commit is not one of them: the commit may have succeeded.
"""

NO_WRITES = frozenset(
    {
        "25006",  # read-only transaction: the server became a standby
        "25P03",  # idle in transaction for too long
        "25P04",  # transaction timeout
    }
)
"""SQLSTATEs of PostgreSQL that pass, although Django's class for them is `InternalError`."""

BUGS = frozenset(
    {
        "SQLITE_ERROR",  # a mistake in a statement, or a missing table
        "1054",  # MySQL: unknown column
    }
)
"""Errors that do not pass, although Django's class for them is `OperationalError`."""


NOT_DURABLE = (
    "This cannot run inside a transaction, whose rollback would undo what it counts. Call it "
    "outside of atomic(). If ATOMIC_REQUESTS is on, decorate the view with "
    "django_flashcall.decorators.non_atomic."
)


def transact(
    function: Callable[[], Result],
    using: str,
    *,
    durable: bool = False,
    is_single: bool = False,
) -> Result:
    """Run a function in a transaction, and again after a deadlock or a serialization failure.

    The function must change nothing but the database, or the same way every time. In a transaction
    of the caller, it runs once: a retry cannot succeed there.

    Args:
        function: what to run.
        using: alias of the database.
        durable: as in `transaction.atomic`.
        is_single: the function executes a single statement, which is a transaction by itself.

    Raises:
        RuntimeError: it has to be durable, but is called inside a transaction.
    """
    connection = connections[using]
    tries = 1 if connection.in_atomic_block else TRIES
    while True:
        tries -= 1
        try:
            if is_single and not connection.in_atomic_block and connection.get_autocommit():
                return function()
            with ExitStack() as stack:
                try:
                    stack.enter_context(transaction.atomic(using=using, durable=durable))
                except RuntimeError:
                    raise RuntimeError(NOT_DURABLE) from None
                return function()
        except OperationalError as error:
            if not tries or reason(error) not in ROLLED_BACK:
                raise
        time.sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311 - no secret


def after_waiting(function: Callable[[], Result], using: str) -> Result:
    """Run the first statements after a long wait, again if the server has closed the connection.

    It can have been restarted, or have ended an idle connection. In a transaction of the caller,
    the function runs once.

    Args:
        function: what to run. It must do nothing a second time: the first may have been committed.
        using: alias of the database.
    """
    connection = connections[using]
    opened = connection.connection
    try:
        return function()
    except Error:
        # `atomic` opens another connection by itself when it finds that this one is closed.
        is_same = opened is not None and connection.connection is opened
        if connection.in_atomic_block or (is_same and connection.is_usable()):
            raise
        connection.close()
    return function()


def is_temporary(error: BaseException) -> bool:
    """Return True if the database is not available now; False for other errors, which are bugs."""
    match error:
        case InterfaceError():
            return True
        case OperationalError():
            return reason(error) not in BUGS
        case InternalError():
            return reason(error) in NO_WRITES
    return False


def unavailable(error: BaseException) -> Unavailable | None:
    """Log an error if the database is not available, and return what to tell the visitor.

    Returns:
        None for every other error.
    """
    if not is_temporary(error):
        return None
    logger.error("The database is not available: %s.", describe(error))
    return Unavailable()


def describe(error: BaseException) -> str:
    """Return the type and the code of an error, for the log: its message may contain values."""
    code = reason(error) if isinstance(error, Error) else ""
    return f"{type(error).__name__} {code}".strip()


def reason(error: BaseException) -> str:
    """Return SQLSTATE, error number of MySQL or name of the error of SQLite; "" if not known."""
    cause = error.__cause__
    number = next(iter(getattr(cause, "args", ())), None)
    if isinstance(number, int):  # MySQL; some of its drivers know the SQLSTATE too
        return str(number)
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):  # psycopg 3, psycopg 2, sqlite3
        if code := getattr(cause, name, None):
            return str(code)
    return ""
