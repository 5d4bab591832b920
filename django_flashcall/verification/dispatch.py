"""Queue a call, and place it: at once, or in a worker.

In both cases, the row of the call is committed first. A call for a worker also has a `QueuedCall`
until the provider has responded: whatever is in that table has still to be done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Q
from django.utils import timezone

from .. import phones
from ..backends import get_backend
from ..conf import conf
from ..database_errors import transact
from ..exceptions import (
    FlashcallError,
    NumberRejected,
    PhoneNotAllowed,
    ProviderError,
    TemporaryFailure,
    TooManyCalls,
    UnknownOutcome,
    VerificationNotFound,
)
from ..models import Call, QueuedCall, Verification
from ..prepared.writes import PreparedInsert, Write
from ..protection import limits, rules
from ..protection.limits import Reservation
from ..protection.visitors import Source
from ..redaction import Secret
from . import breaker, calls, codes
from .lookup import explain

logger = logging.getLogger("django_flashcall")

FAILOVER_WITHIN = 5
"""Seconds after which no other backend tries: with the default timeouts, a visitor waits for less
than 16 seconds."""

TAKEN_FOR = 60
"""Seconds after which a worker that took a call must have been killed: placing takes less than 16
seconds for each backend."""

RECOVERED_AT_ONCE = 10
"""Calls of killed workers that one task takes over."""


class Plan(NamedTuple):
    """How to place a call, and another one instead of it if its backend is unable to."""

    aliases: Sequence[str]
    """The backends that can place it, preferred first; a single empty one if nobody is called."""
    found: rules.Judgement
    """What `rules.judge` found."""
    code: Secret | None = None
    """The code of each call; None for a new one."""
    awaits_code: bool = False
    """The request needs the code that the provider chooses, so no worker places the call."""


def make(
    verification: Verification,
    channel: str,
    alias: str,
    source: Source,
    now: datetime,
    given: Secret | None = None,
) -> tuple[Call, Secret]:
    """Return the next call, not saved, with its code: the given one, or a new one.

    The code is empty if the provider chooses it: no code is valid before the response.
    """
    number = verification.phone.number
    test_code = conf.TEST_NUMBERS.get(number)
    call = Call(
        verification=verification,
        phone=verification.phone,
        channel=channel,
        backend=alias,
        prefix=phones.prefix(number),
        country=phones.country(number),
        network=source.network,
        wide_network=source.wide_network,
        is_test=not alias,
        is_known=source.is_known,
        created_at=now,
    )
    if given is not None:
        code = given
    elif test_code:
        code = Secret(test_code)
    elif calls.chooses_code(alias):
        code = Secret()
    elif conf.DISPATCH == "task":
        code = _derive(call, None)
    else:
        code = codes.generate(verification.code_length)
    call.code_digest = codes.digest(code, verification.pk) if code else ""
    return call, code


def insert_write(call: Call) -> Write:
    """Return the statement that saves a new call."""
    return _INSERT.bind(call)


_INSERT = PreparedInsert(Call)


def needs_worker(call: Call, plan: Plan) -> bool:
    """Return True if a worker has to place a call; nobody places one without a backend."""
    return conf.DISPATCH == "task" and not (call.is_test or plan.awaits_code)


def hand_over(call: Call, reservation: Reservation, plan: Plan) -> None:
    """Note that a worker has to place a call, in the transaction that creates its row."""
    QueuedCall.objects.create(
        call=call,
        code_offset=_offset(call, plan.code),
        called_before=reservation.before,
        created_at=call.created_at,
    )


def place(
    call: Call, code: Secret, reservation: Reservation, plan: Plan, *, again: bool = False
) -> Secret:
    """Place a call. If its backend is certainly unable to, let the others try, in their order.

    Args:
        call: the committed row of the call.
        code: its code; empty if the provider chooses it.
        reservation: the result of `limits.reserve`.
        plan: the backends that can try, and whether another call has the same code.
        again: the provider may already have got this call, and drops duplicates.

    Returns:
        the code of the call that was placed; empty if the response with it was lost.
    """
    until = time.monotonic() + FAILOVER_WITHIN
    breakers = plan.found.breakers
    # The first of them may be a paused backend that is tried again; the others must work.
    others = [alias for alias in plan.aliases if alias != call.backend]
    for alias in [name for name in others if not breaker.is_paused(breakers.get(name))]:
        failing = breakers.get(call.backend)
        placed = calls.place(call, code, reservation, failing, next_until=until, again=again)
        if placed is not None:
            return placed
        call, code = _replace(call, alias, reservation, plan.code)
    placed = calls.place(call, code, reservation, breakers.get(call.backend), again=again)
    return placed or Secret()


def place_queued(id: int) -> None:
    """Place a call in a worker, unless another worker has it, or it was placed or is outdated.

    The row of the call gets the outcome; nothing is raised for the visitor.

    Args:
        id: the primary key of the call.
    """
    now = timezone.now()
    # Not from a replica, which may not have the row yet.
    row = QueuedCall.objects.using(router.db_for_write(QueuedCall)).filter(call=id)
    queued = row.select_related("call__phone", "call__verification__phone").first()
    if queued is None or not _take(queued, now):
        return
    call: Call = queued.call
    try:
        if call.is_unanswered:
            _place_taken(queued, now)
    except FlashcallError:
        pass  # the row of the call says the same
    # If the outcome could not be stored, the row stays, and `recover` finds it.
    QueuedCall.objects.filter(~Q(call__status=Call.Status.QUEUED), pk=queued.pk).delete()


def withdraw(call: Call, reservation: Reservation) -> bool:
    """Take a call back that no worker has taken; return False if one has.

    Its row then says that it was rejected, and its limits are refunded.
    """
    if not QueuedCall.objects.filter(call=call, taken_at=None).delete()[0]:
        return False
    calls.fail(call, TemporaryFailure("The task queue is not available."), reservation)
    return True


def recover(now: datetime) -> None:
    """Take over calls that no worker has taken for a while, or whose worker was killed."""
    before = now - timedelta(seconds=TAKEN_FOR)
    queued = QueuedCall.objects.using(router.db_for_write(QueuedCall))
    left = queued.filter(Q(taken_at=None) | Q(taken_at__lt=before))
    old = left.filter(created_at__lt=before).order_by("created_at")
    for id in old.values_list("call", flat=True)[:RECOVERED_AT_ONCE]:
        place_queued(id)


def _take(queued: QueuedCall, now: datetime) -> bool:
    """Take a queued call for this worker; return False if another one has it."""
    taken_at = queued.taken_at
    if taken_at is not None and now - taken_at < timedelta(seconds=TAKEN_FOR):
        return False
    return bool(QueuedCall.objects.filter(pk=queued.pk, taken_at=taken_at).update(taken_at=now))


def _place_taken(queued: QueuedCall, now: datetime) -> None:
    """Place a call that this worker has taken."""
    call: Call = queued.call
    reservation = Reservation(call.created_at, queued.called_before, None)
    again = queued.taken_at is not None  # an earlier worker was killed while it placed the call
    verification = call.verification
    if again and not _drops_duplicates(call.backend):
        _give_up(call, TemporaryFailure("It would be placed twice."), None, again=again)
        return
    is_newest = not verification.written_calls.filter(pk__gt=call.pk).exists()
    if not (verification.is_pending and is_newest and limits.is_last(call)):
        late = TemporaryFailure("No worker placed the call in time.")
        _give_up(call, late, None, again=again)
        return
    try:
        found = rules.judge(call.phone.number)
        rules.check_allowed(found)
        able = [] if call.channel in found.stopped else _able(queued)
        if not able:
            stopped = TemporaryFailure("Calls of this kind are stopped.")
            _give_up(call, stopped, reservation, again=again)
            return
        aliases = breaker.usable(able, found.breakers, now)
        alias = call.backend if call.backend in aliases else aliases[0]
        breaker.take(found.breakers.get(alias), now)
    except PhoneNotAllowed:
        denied = NumberRejected("A rule forbids calls to the number.")
        _give_up(call, denied, reservation, again=again)
        return
    except FlashcallError:
        paused = TemporaryFailure("All backends are paused.")
        _give_up(call, paused, reservation, again=again)
        return
    code = Secret()
    if call.code_digest:
        code = _derive(call, queued.code_offset)
        if not code:
            changed = TemporaryFailure("SECRET_KEY was changed.")
            _give_up(call, changed, reservation, again=again)
            return
    plan = Plan(aliases, found, None if queued.code_offset is None else code)
    if alias != call.backend and not again:
        # It was paused while the call waited.
        calls.fail(call, TemporaryFailure("The backend is paused."), None)
        call, code = _replace(call, alias, reservation, plan.code)
    place(call, code, reservation, plan, again=again)


def _able(queued: QueuedCall) -> list[str]:
    """Return the backends of a call's channel that can place it."""
    aliases = conf.CHANNELS.get(queued.call.channel, ())
    is_given = queued.code_offset is not None
    return [alias for alias in aliases if not (is_given and calls.chooses_code(alias))]


def _give_up(
    call: Call, error: ProviderError, reservation: Reservation | None, *, again: bool
) -> None:
    """Store why this worker does not place a call.

    If an earlier worker may have placed it, its outcome is unknown and nothing is given back.
    """
    if again:
        error = UnknownOutcome("The worker was killed while it placed the call.")
    calls.fail(call, error, reservation)


def _replace(
    call: Call, alias: str, reservation: Reservation, given: Secret | None
) -> tuple[Call, Secret]:
    """Queue another call instead of one that was rejected, and return it with its code.

    Raises:
        AlreadyVerified, VerificationCancelled, TooManyAttempts: the verification was finished in
            the meantime; the call is given back.
        VerificationNotFound: it was erased.
        TooManyCalls: the number was called in the meantime; the call is given back.
    """
    source = Source(call.network, call.wide_network, call.is_known)
    verification = call.verification

    def begin() -> tuple[Call, Secret] | TooManyCalls | None:
        is_pending = calls.hold(verification)
        refusal = limits.refusal_of_number(call.phone, source, timezone.now())
        if refusal is not None or not is_pending:
            calls.refund(call, reservation)
            return refusal if is_pending else None
        new, code = make(verification, call.channel, alias, source, timezone.now(), given)
        insert_write(new).execute()
        offset = _offset(new, given)
        QueuedCall.objects.filter(call=call).update(call=new, code_offset=offset)
        return new, code

    using = router.db_for_write(Call)
    replaced = transact(begin, using, durable=True)
    if isinstance(replaced, TooManyCalls):
        raise replaced
    if replaced is not None:
        return replaced
    try:
        verification.refresh_from_db(fields=["state", "attempts_left", "calls_left"], using=using)
    except Verification.DoesNotExist:
        raise VerificationNotFound from None
    raise explain(verification) or VerificationNotFound()


def _offset(call: Call, given: Secret | None) -> int | None:
    """Return what a worker adds to the derived code; None if it calls with the derived code."""
    if given is None:
        return None
    return codes.offset(given, call.reference)


def _derive(call: Call, offset: int | None) -> Secret:
    verification = call.verification
    return codes.derive(
        call.reference,
        verification.code_length,
        verification=verification.pk,
        kept=call.code_digest,
        offset=offset or 0,
    )


def _drops_duplicates(alias: str) -> bool:
    with suppress(ImproperlyConfigured):
        return get_backend(alias).duplicate_control
    return False
