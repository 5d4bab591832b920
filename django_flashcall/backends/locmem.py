"""A backend for tests: calls go to a list in memory."""

from __future__ import annotations

from .base import BaseBackend, CallRequest, Receipt

__all__ = ["LocmemBackend", "outbox"]

outbox: list[CallRequest] = []
"""Every call placed in this process, oldest first. Tests read it, and ``outbox.clear()`` it."""


class LocmemBackend(BaseBackend):
    """Places calls into `outbox` and takes each of them; nothing leaves the process."""

    def place_call(self, request: CallRequest) -> Receipt:
        """Append the request to `outbox` (atomic, so threads may) and return a receipt.

        The provider's identifier is made from the reference, so it is as unique as that one is.
        """
        outbox.append(request)
        return Receipt(provider_id=f"locmem-{request.reference}"[:64])
