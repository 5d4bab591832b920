"""Decorators for views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from django.contrib.auth.decorators import login_required, user_passes_test
from django.db import connections, transaction
from django.http import HttpRequest
from django.utils.functional import lazystr

from . import services
from .conf import conf

__all__ = ["PhoneVerifiedRequiredMixin", "non_atomic", "phone_verified_required"]

View = TypeVar("View", bound=Callable[..., Any])


@overload
def phone_verified_required(view: View) -> View: ...


@overload
def phone_verified_required(*, max_age_days: int | None) -> Callable[[View], View]: ...


def phone_verified_required(view: Any = None, *, max_age_days: int | None = None) -> Any:
    """Require a logged-in user with a verified number; redirect others to log in or to verify one.

    They return to the view afterwards. Needs `django_flashcall.urls`.

    Args:
        max_age_days: days since the user verified the number; older ones verify it again.
    """
    if view is None:
        return partial(phone_verified_required, max_age_days=max_age_days)
    has_verified = partial(services.has_verified_phone, max_age_days=max_age_days)
    verified = user_passes_test(has_verified, login_url=lazystr(_Start()))
    return login_required(verified(view))


class _Start:
    """The page on which a logged-in user verifies a number, as the settings say at the time."""

    def __str__(self) -> str:
        page = "start" if "signup" in conf.PURPOSES else "change"
        return f"django_flashcall:{page}"


class PhoneVerifiedRequiredMixin:
    """`phone_verified_required` for class-based views; list it first among the base classes.

    The view's methods can be async.

    Attributes:
        phone_max_age_days: days since the user verified the number; None for any time.
    """

    phone_max_age_days: int | None = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        dispatch: Callable[..., Any] = super().dispatch  # type: ignore[misc]

        async def async_dispatch(*args: Any, **kwargs: Any) -> Any:
            return await dispatch(*args, **kwargs)

        # `dispatch` is no async function, even if it returns what async methods return.
        view = async_dispatch if getattr(self, "view_is_async", False) else dispatch
        required = phone_verified_required(max_age_days=self.phone_max_age_days)
        return required(view)(request, *args, **kwargs)


def non_atomic(view: View) -> View:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database, so that no error undoes counts.

    For your own views that call `services.start`, `resend` or `check`.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
