"""Backends that send nothing, so that only the packages are measured."""

from __future__ import annotations

from typing import Any

from phone_verify.backends.base import BaseBackend

from django_flashcall.backends import CallRequest, Receipt
from django_flashcall.backends.flashingcall import FlashingCallBackend


class DiscardingBackend(FlashingCallBackend):
    """Accept every call. Delivery reports are parsed as those of the real provider."""

    def place_call(self, request: CallRequest) -> Receipt:
        return Receipt(provider_id=request.reference)


class DiscardingSMS(BaseBackend):  # type: ignore[misc]
    """A backend of django-phone-verify."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.exception_class = ()

    def send_sms(self, number: str, message: str) -> None:
        pass

    def send_bulk_sms(self, numbers: Any, message: str) -> None:
        pass
