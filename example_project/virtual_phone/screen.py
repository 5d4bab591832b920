"""The screen of the virtual phone: the latest calls of the simulated provider."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.request import ProxyHandler, build_opener

import phonenumbers
from django.conf import settings
from django.utils import timezone

FLASH_CALL_RINGS = timedelta(seconds=7)  # a provider hangs up after the second or third ring
VOICE_CODE_RINGS = timedelta(seconds=25)  # gives a person time to answer
CALLS_SHOWN = 5

_without_proxies = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class ShownCall:
    """A call. The calling number is `caller` and then `code`; a voice call has no `code`."""

    id: str
    caller: str
    code: str
    to: str
    spoken: str
    reached: bool
    rings: bool

    @classmethod
    def read(cls, call: dict[str, Any], now: datetime) -> ShownCall:
        """Create a call from the JSON of the simulator."""
        code = "" if call["voice"] else call["code"]
        age = now - datetime.fromisoformat(call["time"])
        ringing = VOICE_CODE_RINGS if call["voice"] else FLASH_CALL_RINGS
        return cls(
            id=call["mtNum"],
            caller=_grouped(call["calling_number"].removesuffix(code)),
            code=code,
            to=_international(call["number"]),
            spoken=call["spoken"],
            reached=call["reached"],
            rings=call["reached"] and age < ringing,
        )


def screen() -> dict[str, Any]:
    """Return the context of ``virtual_phone/screen.html``."""
    try:
        with _without_proxies.open(f"{settings.PROVIDER}calls", timeout=5) as answer:
            found = json.load(answer)
    except OSError:
        return {"is_off": True}
    now = timezone.now()
    calls = [ShownCall.read(call, now) for call in found[:CALLS_SHOWN]]
    return {"calls": calls, "incoming": calls[0] if calls and calls[0].rings else None}


def _grouped(number: str) -> str:
    """Format a Russian calling number, with or without its code, with spaces between groups."""
    return " ".join(filter(None, (number[:2], number[2:5], number[5:8], number[8:])))


def _international(number: str) -> str:
    """Format a number; one that cannot be one is shown as it is."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
