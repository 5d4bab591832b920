"""Corrections of mistakes in allauth that tell strangers who has an account."""

from __future__ import annotations

from functools import wraps
from typing import Any

from allauth.account.internal.flows._authenticate_by_code import (
    BaseConfirmAuthenticationCodeProcess as Process,
)


def apply() -> None:
    """Correct allauth, once."""
    if not hasattr(Process.generate_code, "__wrapped__"):
        Process.generate_code = _without_account(Process.generate_code)


def _without_account(generate_code: Any) -> Any:
    """Let a number without an account request another login code.

    allauth 65.22 answers 500 there (a failed assertion), and 200 for numbers with an account.
    """

    @wraps(generate_code)
    def generate(self: Any) -> str:
        return generate_code(self) if self.user else ""

    return generate
