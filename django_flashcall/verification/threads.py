"""Run services in threads, so that they can be awaited in an event loop.

What only uses the database runs in the thread that Django keeps for the synchronous code of a
request, with the connection of the other queries of that request. What can wait for a provider must
not hold that thread: all other queries of the request would wait too, and outside a request, all
queries of the process. It has threads of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, wraps
from typing import Any, Generic, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections, router

from ..conf import conf
from ..models import Verification

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

SPARE_THREADS = 4
"""Threads besides those that wait for providers, which ``MAX_CALLS_IN_FLIGHT`` limits: with them,
the next request is refused at once and does not wait for a thread."""


def asynchronous(
    function: Callable[Arguments, Result], *, waits: bool = False
) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
    """Return the asynchronous version of a service.

    Args:
        function: the service.
        waits: it can wait for a provider.
    """

    @wraps(function)
    async def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        call = _Call(function, *args, **kwargs)
        del args, kwargs  # a traceback would show them
        if not waits or await sync_to_async(_is_in_transaction)():
            return await sync_to_async(call)()
        pool = _pool(conf.MAX_CALLS_IN_FLIGHT + SPARE_THREADS)
        own = sync_to_async(call.with_own_connections, thread_sensitive=False, executor=pool)
        return await own()

    run.__name__ = run.__qualname__ = f"a{function.__name__}"
    run.__doc__ = f"Asynchronous version of `{function.__name__}`."
    if waits:
        run.__doc__ += (
            "\n\nOther queries go on while it waits for the provider. If the task is cancelled, a "
            "call that has begun is still placed, and its result is stored."
        )
    return run


class _Call(Generic[Result]):
    """A call whose arguments no traceback shows: the code is one of them."""

    def __init__(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> None:
        self._function: Callable[..., Result] = function
        self._args, self._kwargs = args, kwargs

    def __call__(self) -> Result:
        return self._function(*self._args, **self._kwargs)

    def with_own_connections(self) -> Result:
        """Treat connections as Django does for a request; for these threads, nobody else does."""
        close_old_connections()
        try:
            return self()
        finally:
            close_old_connections()


def _is_in_transaction() -> bool:
    """Return True if the caller has a transaction, which other threads are not part of.

    It is the one of a `TestCase`, or the service refuses it.
    """
    return connections[router.db_for_write(Verification)].in_atomic_block


@lru_cache(maxsize=1)
def _pool(size: int) -> ThreadPoolExecutor:
    """Return the threads of this process for calls; others if the setting is changed."""
    return ThreadPoolExecutor(size, thread_name_prefix="flashcall")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # the threads stay in the parent
