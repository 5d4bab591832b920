"""Corrections of mistakes in allauth, as of version 65.22."""

from __future__ import annotations

from copy import deepcopy
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import BaseConfirmCodeForm
from allauth.account.internal.flows._authenticate_by_code import (
    BaseConfirmAuthenticationCodeProcess as Process,
)
from allauth.account.internal.flows.phone_verification import ChangePhoneVerificationProcess
from allauth.account.internal.flows.reauthenticate_by_code import (
    ConfirmReauthenticationCodeProcess,
)
from allauth.account.models import Login
from allauth.core import context

from . import attempts


def apply() -> None:
    """Correct allauth, once."""
    if not hasattr(Process.generate_code, "__wrapped__"):
        Process.generate_code = _without_account(Process.generate_code)
        BaseConfirmCodeForm.clean_code = _counted(BaseConfirmCodeForm.clean_code)
        Login.deserialize = classmethod(_on_a_copy(Login.deserialize.__func__))
        for process in (ChangePhoneVerificationProcess, ConfirmReauthenticationCodeProcess):
            process.__init__ = _on_a_copy(process.__init__)


def _without_account(generate_code: Any) -> Any:
    """Let a number without an account request another login code.

    allauth answers 500 there (a failed assertion), and 200 for numbers with an account. So
    strangers could tell who has an account.
    """

    @wraps(generate_code)
    def generate(self: Any) -> str:
        return generate_code(self) if self.user else ""

    return generate


def _counted(clean_code: Any) -> Any:
    """Spend an attempt in the database before a guess is compared; see `attempts`."""

    @wraps(clean_code)
    def clean(self: Any) -> str:
        if not attempts.spend(context.request, self.expected_code):
            raise get_adapter().validation_error("incorrect_code")
        return str(clean_code(self))

    return clean


def _on_a_copy(function: Any) -> Any:
    """Let a function change a copy of the session's data, until allauth stores it.

    allauth writes a new code into them before the call that brings it. If that is refused, whatever
    saves the session would replace the code of the call before, which is still valid.
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(deepcopy(value) if type(value) is dict else value for value in args)
        if "state" in kwargs:
            kwargs["state"] = deepcopy(kwargs["state"])
        return function(*args, **kwargs)

    return call
