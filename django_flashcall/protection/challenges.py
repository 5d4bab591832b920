"""The site's CAPTCHA, required when a limit is more than half used."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from ..conf import conf
from ..exceptions import ChallengeRequired
from . import limits, visitors


def require_challenge(request: Any, number: str) -> None:
    """Check the site's ``CHALLENGE`` if a limit on addresses, ranges or the site is half used.

    The views call it, because services have no request.

    Args:
        request: a request of Django or Django REST framework, passed on to ``CHALLENGE``.
        number: the number to be called, in E.164.

    Raises:
        ChallengeRequired: ``CHALLENGE`` returned a false value.
    """
    challenge = conf.CHALLENGE
    if challenge is None:
        return
    source = visitors.source(visitors.client_ip(request))
    if limits.is_half_used(number, source, timezone.now()) and not challenge(request):
        raise ChallengeRequired
