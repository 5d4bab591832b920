"""A backend for tests that appends calls to a list in memory."""

from __future__ import annotations

from .base import BaseBackend, CallRequest, Receipt

__all__ = ["LocmemBackend", "outbox"]

outbox: list[CallRequest] = []
"""Every call placed in this process, oldest first. Tests empty it with ``outbox.clear()``."""


class LocmemBackend(BaseBackend):
    """Append calls to `outbox` and accept all of them. Nothing leaves the process."""

    def place_call(self, request: CallRequest) -> Receipt:
        """Append the request to `outbox` (thread-safe) and return a receipt.

        The provider's identifier contains the reference, so it is unique too.
        """
        outbox.append(request)
        return Receipt(provider_id=f"locmem-{request.reference}")
