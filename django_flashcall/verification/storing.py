"""Store a new call, and all that is counted with it, before the provider is asked."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import router

from ..database_errors import transact
from ..models import Call, Phone, Verification
from ..prepared.writes import PreparedInsert, execute_all
from ..protection import limits
from ..protection.fraud_guard import Passage
from ..protection.limits import Reservation, Usage
from ..protection.visitors import Source
from ..redaction import Secret
from . import breaker, dispatch, in_flight


class Stored(NamedTuple):
    """A call that was stored, its code, and the result of `limits.reserve`."""

    call: Call
    code: Secret
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Storing:
    """What is known about the next call before it is stored.

    Attributes:
        plan: how to place it.
        source: the source of the request.
        now: time of the request.
        slot: taken if this process places the call.
        passage: what it has to take from the fraud guard, if anything.
    """

    plan: dispatch.Plan
    source: Source
    now: datetime
    slot: in_flight.Slot
    passage: Passage | None = None

    def first_call(self, verification: Verification, usage: Usage | None) -> Stored:
        """Store a new verification with its first call, in a transaction of its own.

        Args:
            verification: not saved; its phone can be new.
            usage: see `limits.reserve`.

        Raises:
            Cooldown, TooManyCalls, ProviderUnavailable: nothing is stored.
        """
        stored = None if usage is None else self._at_once(verification, usage)
        if stored is not None:
            return stored

        def begin() -> Stored:
            phone = copy(verification.phone)  # a retry must not see what was rolled back
            reservation = self._reserve(phone, usage)
            fresh = _with(verification, phone)
            _INSERT.execute(fresh)
            return self._call(fresh, reservation)

        return transact(begin, router.db_for_write(Verification), durable=True)

    def next_call(self, verification: Verification, usage: Usage | None) -> Stored:
        """Store another call, in the caller's transaction.

        Args:
            verification: reloaded in this transaction.
            usage: see `limits.reserve`.

        Raises:
            Cooldown, TooManyCalls, ProviderUnavailable: the transaction must be rolled back.
        """
        return self._call(verification, self._reserve(verification.phone, usage))

    def _at_once(self, verification: Verification, usage: Usage) -> Stored | None:
        """Store a verification with its first call, if nothing but its number has to be asked.

        Returns:
            None if a transaction has to decide. Nothing is stored then.

        Raises:
            ProviderUnavailable: no slot is free, and the number is new.
        """
        plan, now = self.plan, self.now
        alias = plan.aliases[0]
        if self.passage is not None or breaker.is_paused(plan.found.breakers.get(alias)):
            return None
        phone = copy(verification.phone)
        claim = limits.claim(phone, self.source, now, usage)
        if claim is None:
            return None
        write, reservation = claim
        verification = _with(verification, phone)
        call, code = self._made(verification)
        if not (call.is_test or self._has_slot(is_new=phone.pk is None)):
            return None
        others = [_INSERT.bind(verification), dispatch.insert_write(call)]
        if count := limits.count_write(call):
            others.append(count)
        if not execute_all(write, *others, durable=True):
            self.slot.release()  # the others of a crowd only learn that they came late
            return None
        return Stored(call, code, reservation)

    def _has_slot(self, *, is_new: bool) -> bool:
        """Take a slot; return False if a transaction has to tell why there is none.

        For a new number, raise that at once: a transaction would store the number and roll that
        back. If all of a crowd at a new number do so, MySQL ends most of them as deadlocks.
        """
        if is_new:
            self.slot.take()
            return True
        return self.slot.try_to_take()

    def _reserve(self, phone: Phone, usage: Usage | None) -> Reservation:
        reservation = limits.reserve(phone, self.source, self.now, usage)
        if self.passage is not None:
            self.passage.take(self.now)
        return reservation

    def _call(self, verification: Verification, reservation: Reservation) -> Stored:
        """Store the call, and take what placing it needs."""
        call, code = self._made(verification)
        dispatch.insert_write(call).execute()
        if dispatch.needs_worker(call, self.plan):
            dispatch.hand_over(call, reservation, self.plan)
        elif not call.is_test:
            self.slot.take()
            breaker.take(self.plan.found.breakers.get(self.plan.aliases[0]), self.now)
        limits.count_call(call)
        return Stored(call, code, reservation)

    def _made(self, verification: Verification) -> tuple[Call, Secret]:
        plan = self.plan
        channel, alias = verification.channel, plan.aliases[0]
        return dispatch.make(verification, channel, alias, self.source, self.now, plan.code)


def _with(verification: Verification, phone: Phone) -> Verification:
    """Return an unsaved copy of a verification, for this instance of its phone."""
    fresh = copy(verification)
    fresh.phone = phone
    return fresh


_INSERT = PreparedInsert(Verification)
