"""Views outside of ``ATOMIC_REQUESTS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections, transaction

View = TypeVar("View", bound=Callable[..., Any])


def non_atomic(view: View) -> View:
    """Take a view out of the transaction of ``ATOMIC_REQUESTS``, for every database.

    An error answer must not undo a count, and no transaction may be open while we wait for a
    provider: the services refuse to run inside of one.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
