"""The request that is being answered: gateways of django-two-factor-auth are not given it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.http import HttpRequest

from ...exceptions import FlashcallError


@dataclass
class Visit:
    """A request, and the result of the call that was requested in it."""

    request: HttpRequest
    is_called: bool = False
    error: FlashcallError | None = None


_visit: ContextVar[Visit | None] = ContextVar("django_flashcall_visit", default=None)


def current() -> Visit | None:
    """Return the visit that is being answered; None outside of requests."""
    return _visit.get()


@contextmanager
def visit(request: HttpRequest) -> Iterator[None]:
    """Make a request the current one for the block."""
    token = _visit.set(Visit(request))
    try:
        yield
    finally:
        _visit.reset(token)
