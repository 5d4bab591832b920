"""The site's CAPTCHA: required when something looks suspicious or a limit is half used."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.utils import timezone

from ..conf import conf
from ..exceptions import ChallengeRequired
from ..models import Phone
from ..prepared.keys import is_key_of
from . import devices, fraud_guard, limits, visitors


def require_challenge(request: Any, number: str) -> bool:
    """Check the site's ``CHALLENGE`` if a limit is half used or the fraud guard has narrowed.

    Whoever owns the number, or verified it before on this device, is not asked. The views call it,
    because services have no request.

    Args:
        request: a request of Django or Django REST framework, passed on to ``CHALLENGE``.
        number: the number to be called, in E.164.

    Returns:
        True if the visitor has solved it: pass it on as ``challenged`` to `start` or `resend`.

    Raises:
        ChallengeRequired: ``CHALLENGE`` returned a false value.
    """
    challenge = conf.CHALLENGE
    if challenge is None or number in conf.TEST_NUMBERS:
        return False
    if devices.is_known(number, devices.marks_of(request)):
        return False
    source = visitors.source(visitors.client_ip(request))
    now = timezone.now()
    phones = Phone.objects.using(router.db_for_write(Phone))
    phone = phones.filter(number=number).first() or Phone(number=number)
    user = getattr(request, "user", None)
    if user is not None and is_key_of(user, phone.owner_id):
        return False
    if not (
        limits.is_half_used(number, source, now) or fraud_guard.is_narrowed(phone, source, now)
    ):
        return False
    if not challenge(request):
        raise ChallengeRequired
    return True


def offer() -> dict[str, Any] | None:
    """Return a new challenge for the pages and the API, if the site's ``CHALLENGE`` makes them."""
    make = getattr(conf.CHALLENGE, "offer", None)
    return None if make is None else make()
