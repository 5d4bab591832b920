"""Decorators for views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.auth.decorators import login_required, user_passes_test
from django.db import connections, transaction
from django.utils.decorators import method_decorator

from . import services

__all__ = ["PhoneVerifiedRequiredMixin", "non_atomic", "phone_verified_required"]

View = TypeVar("View", bound=Callable[..., Any])


def phone_verified_required(view: View) -> View:
    """Require a logged-in user with a verified number; redirect others to log in or to verify one.

    They return to the view afterwards. Needs `django_flashcall.urls`.
    """
    verified = user_passes_test(services.has_verified_phone, login_url="django_flashcall:start")
    return login_required(verified(view))


class PhoneVerifiedRequiredMixin:
    """`phone_verified_required` for class-based views; list it first among the base classes."""

    @method_decorator(phone_verified_required)
    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(*args, **kwargs)  # type: ignore[misc]


def non_atomic(view: View) -> View:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database, so that no error undoes counts.

    For your own views that call `services.start`, `resend` or `check`.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
