"""What tells us that a code of django-two-factor-auth was right."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver
from two_factor.plugins.phonenumber.models import PhoneDevice
from two_factor.signals import user_verified

from ... import services
from ...exceptions import FlashcallError
from . import visits
from .gateways import PURPOSE, SESSION_KEY


@receiver(user_verified)
def confirm_login(request: Any, device: Any, **kwargs: Any) -> None:
    """Confirm the call of a login."""
    if isinstance(device, PhoneDevice):
        _confirm(device, request.session)


@receiver(post_save, sender=PhoneDevice)
def confirm_setup(instance: Any, created: bool, **kwargs: Any) -> None:
    """Confirm the call of a setup: its device is saved once its code was right."""
    visit = visits.current()
    if created and visit is not None:
        _confirm(instance, visit.request.session)


def _confirm(device: Any, session: Any) -> None:
    """Confirm the newest call of a session, if it was to the number of the device."""
    verification = session.get(SESSION_KEY)
    if device.method != "call" or verification is None:
        return
    with suppress(FlashcallError):  # it was to another number, or is confirmed already
        services.confirm_call(device.number.as_e164, purpose=PURPOSE, verification=verification)
        del session[SESSION_KEY]
