"""Helpers for your tests: captured calls, their codes, and test cases for backends.

With pytest, use the fixtures of `django_flashcall.pytest_plugin`. With ``manage.py test``::

    @testing.capture_calls()
    class SignupTests(TestCase):
        def test_signup(self):
            self.client.post("/phone/", {"phone": "+79161234567"})
            code = testing.last_code("+79161234567")
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.conf import settings
from django.test import override_settings
from django.test.utils import TestContextDecorator

from .. import phones
from ..backends import CallRequest
from ..backends.locmem import outbox
from ..simulator import Simulator
from .contract import BackendContract
from .situations import PlacedCall, Situation

__all__ = [
    "BackendContract",
    "PlacedCall",
    "Situation",
    "capture_calls",
    "captured",
    "last_code",
    "outbox",
    "simulated",
]

LOCMEM = "django_flashcall.backends.locmem.LocmemBackend"
FLASHINGCALL = "django_flashcall.backends.flashingcall.FlashingCallBackend"


def last_code(phone: str) -> str:
    """Return the code of the newest call to a number in `outbox`.

    Args:
        phone: the number, in any common format.

    Raises:
        LookupError: the number was not called.
    """
    number = phones.parse(phone)
    for call in reversed(outbox):
        if call.phone == number:
            return str(call.code)
    called = ", ".join(sorted({call.phone for call in outbox})) or "none"
    raise LookupError(f"{number} was not called; numbers that were: {called}.")


def captured() -> dict[str, Any]:
    """Return a copy of ``FLASHCALL`` in which every backend appends to `outbox`, at once."""
    aliases = settings.FLASHCALL.get("BACKENDS", {"default": {}})
    backends = {alias: {"BACKEND": LOCMEM} for alias in aliases}
    return {**settings.FLASHCALL, "BACKENDS": backends, "DISPATCH": "inline"}


def simulated(simulator: Simulator, **options: Any) -> dict[str, Any]:
    """Return a copy of ``FLASHCALL`` with the simulator as the provider of both channels.

    Args:
        simulator: a running simulator. Its first account without `voice` places flash calls, its
            first account with `voice` voice codes; a channel without an account is not offered.
        options: more options of the backends, such as ``timeout``.
    """
    backends, channels = {}, {}
    for alias, channel, voice in (("default", "flash_call", False), ("voice", "voice_code", True)):
        for account in simulator.accounts.values():
            if account.voice is voice and alias not in backends:
                access = {
                    "url": simulator.url,
                    "login": account.login,
                    "password": account.password,
                }
                backends[alias] = {"BACKEND": FLASHINGCALL, "OPTIONS": {**access, **options}}
                channels[channel] = [alias]
    changes = {"BACKENDS": backends, "CHANNELS": channels, "DISPATCH": "inline"}
    return {**settings.FLASHCALL, **changes}


class capture_calls(TestContextDecorator):
    """Append calls to `outbox`, emptied first. For test methods, test classes and ``with``."""

    def enable(self) -> list[CallRequest]:
        outbox.clear()
        self._settings = override_settings(FLASHCALL=captured())
        self._settings.enable()
        return outbox

    def disable(self) -> None:
        self._settings.disable()

    def decorate_class(self, cls: Any) -> Any:
        """Capture the calls of ``setUpClass`` and ``setUpTestData``, too."""
        captures, set_up = type(self), cls.setUpClass.__func__

        @wraps(set_up)
        def set_up_class(cls: Any) -> None:
            capture = captures()
            capture.enable()
            cls.addClassCleanup(capture.disable)
            set_up(cls)

        cls.setUpClass = classmethod(set_up_class)
        return super().decorate_class(cls)
