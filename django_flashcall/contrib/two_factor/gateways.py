"""The gateway, named by ``TWO_FACTOR_CALL_GATEWAY``."""

from __future__ import annotations

from typing import Any

from django.views.decorators.debug import sensitive_variables

from ... import services
from ...exceptions import FlashcallError
from . import visits

__all__ = ["FlashCall"]

PURPOSE = "two-factor"
"""The purpose of its calls, for the admin and statistics; not a key of ``PURPOSES``."""

CODE_LENGTH = 6
"""Digits of its codes. 4 would be too few for a second factor, and more cannot be called."""

SESSION_KEY = "django_flashcall_two_factor"
"""Where the visitor's session keeps the id of the verification of its newest call."""


class FlashCall:
    """A gateway of django-two-factor-auth: the code is the end of the number that calls."""

    @sensitive_variables("token")
    def make_call(self, device: Any, token: str) -> None:
        """Call the number of a device.

        django-two-factor-auth expects no errors at login. While the middleware is answering a
        request, it therefore shows them in the form.

        Args:
            device: the `PhoneDevice`; during its setup it is not saved and may have no user.
            token: the code, 6 digits.

        Raises:
            FlashcallError: there was no call; outside of requests only.
            RuntimeError: called inside a transaction.
        """
        visit = visits.current()
        try:
            placed = services.place_call(
                device.number.as_e164,
                token,
                purpose=PURPOSE,
                user=device.user if device.user_id else _visitor(visit),
                ip=services.client_ip(visit.request) if visit else None,
            )
        except FlashcallError as error:
            if visit is None:
                raise
            visit.error = error
        else:
            if visit is not None:
                visit.is_called = True
                visit.request.session[SESSION_KEY] = str(placed.verification.pk)


def _visitor(visit: visits.Visit | None) -> Any:
    return getattr(visit.request, "user", None) if visit else None
