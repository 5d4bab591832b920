"""Limit how many requests of this process can wait for providers at the same time.

Without a limit, a provider that stops responding takes the whole site down: every worker thread
ends up waiting for it. The pattern is the bulkhead of Nygard, *Release It!*.
"""

from __future__ import annotations

import os
import threading
from typing import Self

from ..conf import conf
from ..exceptions import ProviderUnavailable
from ..models import Refusal

RETRY_AFTER = 15
"""Seconds after which a visitor can try again: a backend waits no longer for its provider."""

_lock = threading.Lock()
_taken = 0


class Slot:
    """One of the ``MAX_CALLS_IN_FLIGHT`` slots; a context manager that frees it if it was taken.

    Take it last in the transaction that stores the call: if no slot is free, everything is rolled
    back and nothing is spent. Before a single statement that stores everything, `try_to_take` it.
    """

    def __init__(self) -> None:
        self._is_taken = False

    def take(self) -> None:
        """Take a slot, without waiting for one; a second time, do nothing.

        Raises:
            ProviderUnavailable: no slot is free.
        """
        global _taken
        if self._is_taken:  # the transaction that took it is run again
            return
        with _lock:
            if _taken >= conf.MAX_CALLS_IN_FLIGHT:
                raise ProviderUnavailable(retry_after=RETRY_AFTER, scope=Refusal.Scope.IN_FLIGHT)
            _taken += 1
            self._is_taken = True

    def try_to_take(self) -> bool:
        """Take a slot; return False if none is free."""
        try:
            self.take()
        except ProviderUnavailable:
            return False
        return True

    def release(self) -> None:
        """Free the slot, if it was taken."""
        global _taken
        if self._is_taken:
            with _lock:
                _taken -= 1
            self._is_taken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def count() -> int:
    """Return the number of slots of this process that are taken."""
    return _taken


def _reset() -> None:
    """Free all slots in a forked process: the threads that use them stay in the parent."""
    global _lock, _taken
    _lock, _taken = threading.Lock(), 0


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_reset)
