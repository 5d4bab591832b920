"""What several models share."""

from __future__ import annotations

import secrets
import time
import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..conf import FLASH_CALL, VOICE_CODE


def new_id() -> uuid.UUID:
    """Return a new UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits.

    An index of random identifiers grows at a random place for each row, so it is larger and slower.
    """
    random = secrets.randbits(74)  # `uuid.uuid7` needs Python 3.14
    high, low = random >> 62, random & (2**62 - 1)
    return uuid.UUID(int=time.time_ns() // 10**6 << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


class Channel(models.TextChoices):
    FLASH_CALL = FLASH_CALL, _("flash call")
    VOICE_CODE = VOICE_CODE, _("voice code")
