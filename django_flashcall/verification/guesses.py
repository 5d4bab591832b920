"""Spend an attempt of a verification for a code that a visitor entered, and compare the code."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import router
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from ..conf import conf
from ..database_errors import transact
from ..exceptions import FlashcallError, TooManyAttempts, VerificationNotFound
from ..models import Attempt, Call, Refusal, Verification
from ..prepared.keys import has_plain_key
from ..prepared.writes import PreparedInsert, PreparedUpdate, Update, execute_all
from ..protection import limits, refusals, visitors, wrong_codes
from ..redaction import Secret
from . import codes


class Visitor(NamedTuple):
    """Who enters a code: the account, if logged in, and the value of the session."""

    account: Any
    session: str | None

    @property
    def is_simple(self) -> bool:
        """Whether a prepared statement can look for the account."""
        return self.account is None or has_plain_key(self.account)

    def owns(self, verification: Verification) -> bool:
        """Return True if `find` finds the verification."""
        is_ours = verification.purpose in conf.PURPOSES
        return is_ours and verification.belongs_to(self.account, self.session)


class Guess:
    """A code that a visitor entered.

    Attributes:
        verification: its verification, once the code was evaluated; None if no call was placed.
        right: whether it is the code of the last call.
    """

    verification: Verification | None = None
    right = False

    def __init__(self, id: UUID, code: str, ip: str | None) -> None:
        self.id, self.code = id, Secret(code)
        self.address = visitors.parse_address(ip)
        self.source = visitors.source(ip)

    def evaluate(self, visitor: Visitor | None = None, *, durable: bool = True) -> bool:
        """Spend an attempt, compare the code and store the result.

        Args:
            visitor: who has to have started the verification, if that is not known yet.
            durable: whether the transaction is one of its own, which is committed.

        Returns:
            False if there was no attempt, or the verification is not the visitor's.

        Raises:
            TooManyAttempts: the address or the number has to wait; no attempt is spent.
        """
        now = timezone.now()

        def write() -> bool:
            self.verification, self.right = None, False  # if it is run again
            spend = self._spend_write(visitor, now)
            windows = wrong_codes.of_address(self.source, now)
            try:
                call = Call.newest(self.id, placed=True, spend=spend, **windows)
            except Verification.DoesNotExist:
                return False
            if call is not None:  # else, every call was rejected, so no code is valid
                # MySQL compares text without regard to case: make sure.
                if visitor is not None and not visitor.owns(call.verification):
                    raise VerificationNotFound
                self._compare(call, now)
            return True

        if visitor is not None and not visitor.is_simple:
            return False
        try:
            return transact(write, router.db_for_write(Verification), durable=durable)
        except VerificationNotFound:  # rolled back: no attempt is spent
            return False
        except FlashcallError as error:
            assert self.verification is not None  # noqa: S101 - `_compare` has raised it
            refusals.count(error, self.verification.phone.number, self.source, now)
            raise

    def _spend_write(self, visitor: Visitor | None, now: datetime) -> Update:
        """Return the statement that spends an attempt."""
        if visitor is None:
            return _SPEND.bind(pk=self.id, now=now)
        user = None if visitor.account is None else visitor.account.pk
        mine = {"user": user, "session": visitor.session or "", "length": len(self.code)}
        return _SPEND_OWN.bind(tuple(conf.PURPOSES), pk=self.id, now=now, **mine)

    def _compare(self, call: Call, now: datetime) -> None:
        verification = self.verification = call.verification
        phone = verification.phone
        source = self.source = self.source._replace(is_known=verification.is_known)
        # These errors roll the transaction back: the code was not checked, so no attempt is spent.
        wrong_codes.check(call, source, now)
        until = phone.locked_until(is_known=source.is_known)
        waits = until is not None and until > now
        has_failed = verification.attempts_left + 1 < verification.max_attempts
        if waits and has_failed:
            # The first attempt is still allowed, so that strangers' guesses do not lock the owner
            # out.
            raise TooManyAttempts(
                retry_after=limits.retry_after(phone, source, now), scope=Refusal.Scope.NUMBER
            )
        self.right = codes.matches(self.code, verification.pk, call.code_digest)
        if self.right:
            verification.state, verification.verified_at = Verification.State.VERIFIED, now
            verification.verified_ip = None if self.address is None else str(self.address)
            # Where tokens of this purpose are redeemed, the number has yet to do that.
            completed = not verification.is_purpose_redeemed
            progress = Call.Progress.COMPLETED if completed else Call.Progress.VERIFIED
            execute_all(
                _VERIFY.bind(pk=verification.pk, now=now, ip=self.address),
                phone.verified_write(now, is_known=source.is_known),
                verification.progress_write(progress),
                savepoint=False,
            )
            if has_failed:  # those who succeed after all do not count for their address
                Attempt.objects.filter(verification=verification).update(counts=False)
        else:
            attempt = Attempt(verification=verification, created_at=now)
            attempt.ip = None if self.address is None else str(self.address)
            attempt.network, attempt.wide_network = source.network, source.wide_network
            execute_all(
                _INSERT_ATTEMPT.bind(attempt),
                wrong_codes.count_write(phone, now, is_known=source.is_known),
                savepoint=False,
            )
            if not verification.is_pending:
                verification.erase_codes()


def pending(pk: Any, now: Any) -> QuerySet[Verification]:
    """Return a queryset of a verification if it is pending.

    It has no joins: they would use the old version of a row that another transaction just changed.
    """
    return Verification.objects.filter(
        pk=pk, state=Verification.State.PENDING, attempts_left__gt=0, expires_at__gt=now
    )


_ONE_ATTEMPT = {"attempts_left": F("attempts_left") - 1}
_SPEND = PreparedUpdate(Verification, lambda *, pk, now: (pending(pk, now), _ONE_ATTEMPT))


def _own(
    purposes: Collection[str], *, pk: Any, now: Any, length: Any, user: Any, session: Any
) -> tuple[QuerySet[Verification], dict[str, Any]]:
    """Return the update of a verification that `find` would return; see `belongs_to`."""
    mine = Q(user=None, session__in=["", session])
    if user is not None:
        mine |= Q(user=user)
    row = pending(pk, now).filter(mine, purpose__in=purposes, code_length=length)
    return row, _ONE_ATTEMPT


_SPEND_OWN = PreparedUpdate(Verification, _own)
_INSERT_ATTEMPT = PreparedInsert(Attempt)
_VERIFY = PreparedUpdate(
    Verification,
    lambda *, pk, now, ip: (
        Verification.objects.filter(pk=pk),
        {
            "state": Verification.State.VERIFIED,
            "verified_at": now,
            "verified_ip": ip and str(ip),
        },
    ),
)
