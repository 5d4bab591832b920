"""A backend for development that prints calls instead of placing them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.core import checks

from .base import BaseBackend, CallRequest, Receipt

__all__ = ["ConsoleBackend"]


class ConsoleBackend(BaseBackend):
    """Print the number and **the code** to standard output instead of calling.

    For development only: anyone who reads the output can verify any number. A deployment check
    warns about it.
    """

    def place_call(self, request: CallRequest) -> Receipt:
        """Print the call in one write, so that lines of threads do not mix, and accept it."""
        if request.channel == "voice_code":
            heard = f"a voice says {' '.join(request.code)}"
        else:
            heard = f"the calling number ends in {request.code}"
        sys.stdout.write(f"{request.phone} rings: {heard}\n")
        sys.stdout.flush()
        return Receipt(provider_id=f"console-{request.reference}")

    @classmethod
    def check_deployment(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Warn that codes are printed and nobody is called."""
        return [
            checks.Warning(
                f"FLASHCALL: backend {alias!r} prints codes and calls nobody.",
                hint="ConsoleBackend is for development: name the backend of your provider here.",
                id="django_flashcall.W001",
            )
        ]
