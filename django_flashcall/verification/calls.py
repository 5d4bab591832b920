"""Place a call through a backend, store the result, and send the signals.

The row of the call is committed before `place` is called, and no transaction is open while it waits
for the provider. A process that is killed at any moment leaves a row with what is known so far. So
does a database that fails when the response is stored: the call then stays queued, counts in the
limits, and a delivery report or time settles it (`Call.settle_lost`).
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, router
from django.db.models import F
from django.utils import timezone

from .. import signals
from ..backends import BaseBackend, CallRequest, Receipt, get_backend
from ..conf import conf
from ..database_errors import after_waiting, describe, transact
from ..exceptions import (
    DuplicateCall,
    DuplicateRejected,
    FlashcallError,
    InvalidDestination,
    Misconfigured,
    NumberRejected,
    ProviderError,
    ProviderUnavailable,
    TemporaryFailure,
    UnknownOutcome,
)
from ..models import Call, CircuitBreaker, Verification
from ..prepared.writes import PreparedUpdate
from ..protection import limits
from ..protection.limits import Reservation
from ..protection.visitors import Source
from ..redaction import Secret
from . import breaker, codes

logger = logging.getLogger("django_flashcall")

IDENTIFIER_LENGTH = 64
"""Characters of a provider's identifier that are stored."""

REPORTED = ("error_code", "provider_code")
"""What both a response and a delivery report say about the outcome."""

TROUBLE_LOGGED_EVERY = 600
"""Minimum seconds between two log messages about the same problem with a backend."""


def place(
    call: Call,
    code: Secret,
    reservation: Reservation,
    failing: CircuitBreaker | None = None,
    *,
    next_until: float | None = None,
    again: bool = False,
) -> Secret | None:
    """Ask the provider for a call, store its response, and raise the error for the visitor.

    Args:
        call: the committed row of the call.
        code: the code of the call; empty if the provider chooses it.
        reservation: the result of `limits.reserve`, given back if the call is rejected.
        failing: the circuit breaker of the backend, if it failed last.
        next_until: the time of `time.monotonic` until which another backend can try, if this one is
            certainly unable to place the call; None if there is no other.
        again: a worker that was killed may have placed the call, and the provider drops duplicates.

    Returns:
        the code that was called with; empty if the response with it was lost. None if the other
        backend has to try; nothing is given back then.

    Raises:
        InvalidDestination, DuplicateCall, ProviderUnavailable: the call failed. An unknown outcome
            raises nothing: the phone may be ringing.
        django.db.Error: the code that the provider chose could not be stored.
    """
    call.verification.newest_call = call
    if call.is_test:
        if call.phone.number in conf.TEST_NUMBERS:
            logger.warning("Test number used, no call placed.", extra=_context(call))
        _save_response(call, Call.Status.SENT)
        return code
    error: ProviderError | None = None
    lost: Error | None = None
    length = call.verification.code_length
    duration: float | None = None
    try:
        backend = _backend(call.backend)
        began = time.perf_counter()
        try:
            receipt = backend.place_call(
                CallRequest(call.phone.number, code, call.reference.hex, call.channel, length)
            )
        finally:
            duration = time.perf_counter() - began
        if not isinstance(receipt, Receipt):
            raise TypeError("A backend has to return a receipt.")
    except ProviderError as raised:
        if not again:
            error = raised
        elif isinstance(raised, DuplicateRejected):
            receipt = Receipt()  # the first request got through
        else:
            error = UnknownOutcome(raised.description)
    except Exception as bug:
        # A bug in the backend: the call may have been placed. The message and local variables may
        # contain the code, so log only the type and the line.
        frame = traceback.extract_tb(bug.__traceback__)[-1]
        name, place = type(bug).__name__, f"{frame.filename}:{frame.lineno}"
        logger.error("A backend raised %s at %s.", name, place, extra=_context(call))
        error = UnknownOutcome(f"The backend raised {name}.")
    else:
        if backend.chooses_code:
            code = Secret(receipt.code or "")
            try:
                error = _save_chosen_code(call, code)
            except Error as raised:
                _log_lost(call, "code", raised)
                lost = raised
    if error is None:
        _save_response(call, Call.Status.SENT, provider_id=_identifier(receipt))
        breaker.record(call.backend, None, failing)
        logger.info("Call placed.", extra=_context(call))
        signals.call_placed.send_robust(Call, call=call, error=None, duration=duration)
        if lost is not None:  # the visitor would wait for a code that is never right
            raise lost
    else:
        unable = isinstance(error, (TemporaryFailure, Misconfigured))
        is_in_time = next_until is not None and time.monotonic() < next_until
        go_on = is_in_time and unable and not error.may_have_been_placed
        refusal = fail(call, error, None if go_on else reservation, duration)
        breaker.record(call.backend, error, failing)
        error = None  # a traceback would show it, and it refers to this frame
        if go_on:
            return None
        if refusal is not None:
            raise refusal
    return code


def _backend(alias: str) -> BaseBackend:
    try:
        return get_backend(alias)
    except ImproperlyConfigured:  # its text may contain what is secret
        raise Misconfigured("Its settings are wrong; manage.py check tells why.") from None


def chooses_code(alias: str) -> bool:
    """Return True if the provider of an alias chooses the codes; False for wrong settings."""
    try:
        return get_backend(alias).chooses_code
    except ImproperlyConfigured:
        return False  # `place` reports it when the row of the call exists


def _save_chosen_code(call: Call, code: Secret) -> ProviderError | None:
    """Store the digest of the code that the provider chose; return an error if it is not valid."""
    verification = call.verification
    if not codes.is_code(code, verification.code_length):
        return Misconfigured(
            f"The provider's code does not have {verification.code_length} digits.",
            may_have_been_placed=True,
        )
    digest = codes.digest(code, verification.pk)

    def save() -> None:
        if hold(verification):
            Call.objects.filter(pk=call.pk).update(code_digest=digest)

    using = router.db_for_write(Call)
    after_waiting(lambda: transact(save, using), using)
    return None


def hold(verification: Verification) -> bool:
    """Lock a verification until the transaction ends; return False if it is finished.

    The functions that finish it lock it first, too: so no digest is stored after they erased those
    of all its calls. A check that waits for this does not see it: see `Call._is_current`.
    """
    pending = Verification.objects.filter(
        pk=verification.pk, state=Verification.State.PENDING, attempts_left__gt=0
    )
    return bool(pending.update(state=Verification.State.PENDING))


def fail(
    call: Call,
    error: ProviderError,
    reservation: Reservation | None,
    duration: float | None = None,
) -> FlashcallError | None:
    """Store why a call failed; return the error for the visitor, if any.

    Args:
        call: the committed row of the call.
        error: the error of a backend, or one like it.
        reservation: the result of `limits.reserve`, given back if the call was certainly not
            placed; None to keep it.
        duration: seconds for which the backend was asked; None if it was not.
    """
    # A provider's text can repeat the number, which is masked in logs.
    error.description = error.description.replace(call.phone.number.removeprefix("+"), "***")
    refusal = _translate(error)
    is_rejected = not error.may_have_been_placed
    _save_response(
        call,
        Call.Status.REJECTED if is_rejected else Call.Status.UNKNOWN,
        returned=reservation if is_rejected else None,
        error_code=refusal.error_code if refusal else "",
        provider_code=_number(error.code),
        provider_message=error.description,
        must_mend=isinstance(error, Misconfigured),
    )
    _log(call, error)
    if error.may_have_been_placed:
        signals.call_placed.send_robust(Call, call=call, error=error, duration=duration)
        if refusal is not None:
            refusal.retry_after = limits.retry_after(
                call.phone, Source(call.network, call.wide_network, call.is_known), call.created_at
            )
    else:
        signals.call_failed.send_robust(Call, call=call, error=error, duration=duration)
    return refusal


def _translate(error: ProviderError) -> FlashcallError | None:
    """Return the visitor's error for a provider's error; None if they see no error."""
    match error:
        case UnknownOutcome():
            return None
        case NumberRejected():
            return InvalidDestination()
        case DuplicateRejected():
            return DuplicateCall()
        case _:
            return ProviderUnavailable()


def _save_response(
    call: Call, status: Call.Status, *, returned: Reservation | None = None, **values: Any
) -> None:
    """Store the provider's response, without overwriting the status of an earlier report.

    Args:
        call: the call.
        status: its status, if no report came first.
        returned: the reservation to give back in the same transaction, so that a call is never
            rejected but still counted.
        values: other fields.
    """
    call.answered_at = timezone.now()
    call.status = status
    for name, value in values.items():
        setattr(call, name, value)
    values["answered_at"] = call.answered_at

    def write() -> None:
        if returned is None:
            _write_response(call, status, values)
        else:
            _write_refused(call, status, values, returned)

    try:
        after_waiting(write, router.db_for_write(Call))
    except (Error, Call.DoesNotExist) as error:
        # The row says that the call may have been placed, so the visitor can continue.
        _log_lost(call, "response", error)


def _write_response(call: Call, status: Call.Status, values: dict[str, Any]) -> bool:
    """Store a response; return False if a report, or the same response, was stored before."""
    # Usually no report came first, and one statement is enough.
    if _ANSWER.execute(status, pk=call.pk, **values):
        return True
    # A report knows the outcome better than the response, even if it came first.
    later = {name: value for name, value in values.items() if name not in REPORTED}
    Call.objects.filter(pk=call.pk).update(**later)
    call.refresh_from_db(fields=["status", *REPORTED], using=router.db_for_write(Call))
    return False


def _write_refused(
    call: Call, status: Call.Status, values: dict[str, Any], reservation: Reservation
) -> None:
    """Store a response that says that the call was not placed, and give the call back."""
    verification = call.verification

    def write() -> bool | None:
        return refund(call, reservation) if _write_response(call, status, values) else None

    is_failed = transact(write, router.db_for_write(Call))
    if is_failed is None:
        using = router.db_for_write(Verification)
        verification.refresh_from_db(fields=["calls_left", "state"], using=using)
        return
    verification.calls_left += 1
    if is_failed:
        verification.state = Verification.State.FAILED


def _answer(status: Call.Status, *, pk: Any, **values: Any) -> tuple[Any, dict[str, Any]]:
    earlier = {Call.Status.QUEUED, Call.Status.UNKNOWN} - {status}
    return Call.objects.filter(pk=pk, status__in=sorted(earlier)), {**values, "status": status}


_ANSWER = PreparedUpdate(Call, _answer)


# A backend of a site may pass on what its provider's JSON contains.


def _identifier(receipt: Receipt) -> str:
    """Return the provider's identifier of a call, as the database takes it."""
    text = "" if receipt.provider_id is None else str(receipt.provider_id)
    return text if text.isprintable() and len(text) <= IDENTIFIER_LENGTH else ""


def _number(value: Any) -> int | None:
    """Return the provider's number of an error, as the database takes it."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**31 else None


def refund(call: Call, reservation: Reservation) -> bool:
    """Refund a call that was certainly not placed to its number and its verification.

    Call it inside a transaction.

    Returns:
        True if the verification has failed with it, because no other call was placed.
    """
    verification = call.verification
    row = Verification.objects.filter(pk=verification.pk)
    row.update(calls_left=F("calls_left") + 1)
    is_placed = verification.written_calls.exclude(status=Call.Status.REJECTED).exists()
    is_failed = not is_placed and bool(
        row.filter(state=Verification.State.PENDING).update(state=Verification.State.FAILED)
    )
    if is_failed:
        verification.erase_codes()
    limits.give_back(call, reservation)
    return is_failed


def _log_lost(call: Call, what: str, error: Exception) -> None:
    """Log that something of the provider was not stored, without values of the statement."""
    logger.error(
        "The provider's %s was not stored: %s.", what, describe(error), extra=_context(call)
    )


_troubles: dict[tuple[object, ...], float] = {}
_troubles_lock = threading.Lock()


def _log(call: Call, error: ProviderError) -> None:
    """Log a failed call. Log what needs attention as an error, but not too often."""
    if not isinstance(error, Misconfigured):
        logger.warning(
            "Backend %r: %s: %s",
            call.backend,
            type(error).__name__,
            error.description,
            extra=_context(call),
        )
        return
    cause = call.backend, error.code, error.http_status
    with _troubles_lock:
        now = time.monotonic()
        if now - _troubles.get(cause, -TROUBLE_LOGGED_EVERY) < TROUBLE_LOGGED_EVERY:
            return
        _troubles[cause] = now
    logger.error(
        "Calls cannot be placed through backend %r until this is fixed: error %s, %s",
        call.backend,
        error.code,
        error.description,
        extra=_context(call),
    )
    signals.provider_trouble.send_robust(Call, call=call, error=error)


def _context(call: Call) -> dict[str, Any]:
    """Return the log fields of a call: enough to find its row, without number and code."""
    return {
        "verification": str(call.verification_id),
        "call": call.reference.hex,
        "backend": call.backend,
        "phone": call.phone.masked,
        "outcome": str(call.status),
        "duration": call.duration.total_seconds() if call.duration else None,
    }
