"""The site's CAPTCHA, asked for where a wide limit is more than half used."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from ..conf import conf
from ..exceptions import ChallengeRequired
from . import limits, visitors


def require_challenge(request: Any, number: str) -> None:
    """Ask the site's ``CHALLENGE`` whether a request comes from a person, if there is need.

    For the faces: a service has no request.

    Args:
        request: the request, of Django or of Django REST framework, as ``CHALLENGE`` is given it.
        number: the number to be called, in E.164.

    Raises:
        ChallengeRequired: ``CHALLENGE`` did not return True.
    """
    challenge = conf.CHALLENGE
    if challenge is None:
        return
    source = visitors.source(visitors.client_ip(request))
    if limits.is_half_used(number, source, timezone.now()) and not challenge(request):
        raise ChallengeRequired
