"""The task that places a call in a worker, for ``DISPATCH = "task"``.

It needs `django.tasks` of Django 6.0 or newer, or its backport `django-tasks` on Django 5.2. This
module can be imported without them: Celery and others import the module ``tasks`` of every app.
"""

from __future__ import annotations

import logging
from typing import Any

from django.utils import timezone

from .conf import conf
from .exceptions import ProviderUnavailable
from .models import Call
from .protection.limits import Reservation
from .verification import dispatch

problem: Exception | None = None
"""Why ``TASKS`` does not fit, for `checks`."""

task: Any
try:
    from django.tasks import task
except ImportError:  # Django 5.2
    try:
        from django_tasks import task
    except ImportError:
        task = None

__all__ = ["place_call"]

logger = logging.getLogger("django_flashcall")


def _task(function: Any) -> Any:
    global problem
    if task is None:
        return function
    try:
        return task(backend=conf.TASK_BACKEND, queue_name=conf.TASK_QUEUE)(function)
    except Exception as error:  # those of both frameworks have nothing in common
        problem = error
        return function


@_task
def place_call(call_id: int) -> None:
    """Place a queued call, and those that killed workers left.

    It can run again or late: a call that was placed, or that another worker has, is left alone.

    Args:
        call_id: primary key of the call. Number and code are not in the task: the number is in the
            database, and the code follows from the call and ``SECRET_KEY``.
    """
    dispatch.place_queued(call_id)
    dispatch.recover(timezone.now())


def enqueue(call: Call, reservation: Reservation) -> None:
    """Give a call to the workers.

    Args:
        call: the committed row of the call.
        reservation: the result of `limits.reserve`.

    Raises:
        ProviderUnavailable: the queue does not take it.
    """
    try:
        chosen = place_call.using(backend=conf.TASK_BACKEND, queue_name=conf.TASK_QUEUE)
        chosen.enqueue(call.pk)
    except Exception as error:
        # Queues raise what their libraries raise, and their messages can contain passwords.
        logger.error("A call was not queued: %s.", type(error).__name__)
        if dispatch.withdraw(call, reservation):
            raise ProviderUnavailable from None
