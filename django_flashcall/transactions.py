"""Views that run outside of ``ATOMIC_REQUESTS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections, transaction

View = TypeVar("View", bound=Callable[..., Any])


def non_atomic(view: View) -> View:
    """Let a view run in no transaction on any database, so that an error undoes no count."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
