"""One call through a backend: ask for it, write down what became of it, say who has to know.

The row of the call is committed before `place` is called, and no transaction is open while it waits
for the provider; so a process that is killed at any moment leaves a row that says what is known.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, router, transaction
from django.db.models import F
from django.utils import timezone

from .. import signals
from ..backends import CallRequest, Receipt, get_backend
from ..exceptions import (
    DuplicateCall,
    DuplicateRejected,
    FlashcallError,
    InvalidDestination,
    Misconfigured,
    NumberRejected,
    ProviderError,
    ProviderUnavailable,
    UnknownOutcome,
)
from ..models import Call, Verification
from ..protection import limits
from ..protection.visitors import Source
from ..redaction import Secret
from . import codes

logger = logging.getLogger("django_flashcall")

TROUBLE_LOGGED_EVERY = 600
"""Seconds for which the same trouble with a backend is logged once: a flood would hide it."""


def place(call: Call, code: Secret, before: datetime | None) -> None:
    """Ask the provider for a call, write down what it said, and raise what the person must know.

    Args:
        call: its committed row.
        code: what it carries; empty where the provider chooses it.
        before: what `limits.reserve` returned, to be given back if the call is rejected.

    Raises:
        InvalidDestination, DuplicateCall, ProviderUnavailable: what became of the call. An unknown
            outcome raises nothing: the phone may be ringing.
    """
    if call.is_test:
        logger.warning("Test number used, no call placed.", extra=_context(call))
        _answered(call, Call.Status.SENT)
        return
    error: ProviderError | None = None
    length = call.verification.code_length
    try:
        backend = get_backend(call.backend)
        receipt = backend.place_call(
            CallRequest(call.phone.number, code, call.reference.hex, call.channel, length)
        )
    except ProviderError as raised:
        error = raised
    except Exception as bug:
        # Somebody's backend broke, nobody knows how far it got. Its message and the variables of
        # its frames may hold the code, so that the record has the type and the line alone.
        frame = traceback.extract_tb(bug.__traceback__)[-1]
        name, place = type(bug).__name__, f"{frame.filename}:{frame.lineno}"
        logger.error("A backend raised %s at %s.", name, place, extra=_context(call))
        error = UnknownOutcome(f"The backend raised {name}.")
    else:
        if backend.chooses_code:
            error = _chosen(call, receipt)
    if error is None:
        _answered(call, Call.Status.SENT, provider_id=receipt.provider_id)
        logger.info("Call placed.", extra=_context(call))
        signals.call_placed.send_robust(Call, call=call)
    else:
        refusal = _failed(call, error, before)
        error = None  # it would be a local variable of the traceback, and refer to this frame
        if refusal is not None:
            raise refusal


def chooses_code(alias: str) -> bool:
    """Tell whether the provider chooses the codes of an alias; False where settings are wrong."""
    try:
        return get_backend(alias).chooses_code
    except ImproperlyConfigured:
        return False  # `place` says so, once the row of the call is there


def _chosen(call: Call, receipt: Receipt) -> ProviderError | None:
    """Keep the code that the provider chose; return what is wrong if nobody could type it."""
    verification = call.verification
    code = Secret(receipt.code or "")
    if not codes.is_code(code, verification.code_length):
        return Misconfigured(
            f"The provider's code does not have {verification.code_length} digits.",
            may_have_been_placed=True,
        )
    digest = codes.digest(code, verification.pk)
    try:
        with transaction.atomic(using=router.db_for_write(Call)):
            # The row of the verification first, as whoever ends it does: its codes are then erased
            # for good, and no digest comes after that.
            pending = Verification.objects.filter(
                pk=verification.pk, state=Verification.State.PENDING, attempts_left__gt=0
            )
            if pending.update(state=Verification.State.PENDING):
                Call.objects.filter(pk=call.pk).update(code_digest=digest)
    except DatabaseError:
        logger.exception("The provider's code was not stored.", extra=_context(call))
    return None


def _failed(call: Call, error: ProviderError, before: datetime | None) -> FlashcallError | None:
    """Write down what a backend raised; return what the person must know of it."""
    refusal = _translate(error)
    _answered(
        call,
        Call.Status.UNKNOWN if error.may_have_been_placed else Call.Status.REJECTED,
        error_code=refusal.error_code if refusal else "",
        provider_code=error.code,
        provider_message=error.description,
        must_mend=isinstance(error, Misconfigured),
    )
    _log(call, error)
    if error.may_have_been_placed:
        signals.call_placed.send_robust(Call, call=call)
        if refusal is not None:
            refusal.retry_after = limits.retry_after(
                call.phone, Source(call.network, call.wide_network), call.created_at
            )
    else:
        _undo(call, before)
        signals.call_failed.send_robust(Call, call=call, error=error)
    return refusal


def _translate(error: ProviderError) -> FlashcallError | None:
    """Return what a person is told of a provider's error; None where it is no error for them."""
    match error:
        case UnknownOutcome():
            return None
        case NumberRejected():
            return InvalidDestination()
        case DuplicateRejected():
            return DuplicateCall()
        case _:
            return ProviderUnavailable()


def _answered(call: Call, status: Call.Status, **values: Any) -> None:
    """Write down what the provider answered; a report that came first is not overwritten."""
    call.answered_at = timezone.now()
    call.status = status
    for name, value in values.items():
        setattr(call, name, value)
    earlier = {Call.Status.QUEUED, Call.Status.UNKNOWN} - {status}
    row = Call.objects.filter(pk=call.pk)
    try:
        # One statement where nothing came in between, as almost always.
        if not row.filter(status__in=earlier).update(
            status=status, answered_at=call.answered_at, **values
        ):
            row.update(answered_at=call.answered_at, **values)
            call.refresh_from_db(fields=["status"])
    except (DatabaseError, Call.DoesNotExist):
        # The call is placed, and its row says that it may be: the person goes on.
        logger.exception("The answer of the provider was not stored.", extra=_context(call))


def _undo(call: Call, before: datetime | None) -> None:
    """Give a call that was certainly not placed back to its number and its verification."""
    verification = call.verification
    with transaction.atomic(using=router.db_for_write(Call)):
        row = Verification.objects.filter(pk=verification.pk)
        row.update(calls_left=F("calls_left") + 1)
        verification.calls_left += 1
        limits.give_back(call.phone, call.created_at, before)
        first = not verification.calls.exclude(pk=call.pk).exists()
        if first and row.filter(state=Verification.State.PENDING).update(
            state=Verification.State.FAILED
        ):
            verification.state = Verification.State.FAILED
            verification.erase_codes()


_troubles: dict[tuple[object, ...], float] = {}
_troubles_lock = threading.Lock()


def _log(call: Call, error: ProviderError) -> None:
    """Log a call that did not go as it should; at ERROR, once a while, what has to be mended."""
    if not isinstance(error, Misconfigured):
        logger.warning("%s: %s", type(error).__name__, error.description, extra=_context(call))
        return
    cause = call.backend, error.code, error.http_status
    with _troubles_lock:
        now = time.monotonic()
        if now - _troubles.get(cause, -TROUBLE_LOGGED_EVERY) < TROUBLE_LOGGED_EVERY:
            return
        _troubles[cause] = now
    logger.error(
        "Calls cannot be placed through backend %r until this is mended: error %s, %s",
        call.backend,
        error.code,
        error.description,
        extra=_context(call),
    )
    signals.provider_trouble.send_robust(Call, call=call, error=error)


def _context(call: Call) -> dict[str, Any]:
    """What log records say of a call: enough to find its row, no number and no code."""
    return {
        "verification": str(call.verification_id),
        "call": call.reference.hex,
        "backend": call.backend,
        "phone": call.phone.masked,
        "outcome": str(call.status),
        "duration": call.took.total_seconds() if call.took else None,
    }
