"""The conductor: start, resend, check, cancel, redeem, for a site's own code and for our faces.

Three rules shape every function. Rows that count or tell of a call are committed before the
provider is asked, and no transaction is open while we wait for it: `start`, `resend` and `check`
therefore refuse to run inside somebody's transaction. What is spent is spent by a conditional
``UPDATE`` first and looked at second, so that simultaneous requests cannot share it. And an error
is raised after the transaction that counted it, never out of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import router, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import phones, signals
from .conf import Purpose, conf
from .delivery.reports import record_report
from .exceptions import (
    AlreadyVerified,
    FlashcallError,
    InvalidCode,
    InvalidValue,
    ProviderUnavailable,
    TooManyAttempts,
    TooManyCalls,
    VerificationCancelled,
    VerificationExpired,
    VerificationNotFound,
    WrongCode,
)
from .models import Attempt, Call, Phone, Refusal, Verification
from .privacy.retention import forget, prune
from .protection import fraud_guard, limits, refusals, rules, visitors
from .protection.challenges import require_challenge
from .protection.visitors import Source, client_ip
from .redaction import Secret
from .verification import calls, codes, in_flight, tokens
from .verification.lookup import find, has_verified_phone, phone_of
from .verification.tokens import Person, create_user, read_token, redeem, sign_up

__all__ = [
    "cancel",
    "check",
    "client_ip",
    "create_user",
    "find",
    "forget",
    "has_verified_phone",
    "phone_of",
    "prune",
    "read_token",
    "record_report",
    "redeem",
    "require_challenge",
    "resend",
    "sign_up",
    "start",
]


def start(
    phone: str,
    *,
    channel: str | None = None,
    purpose: str = "signup",
    user: Person = None,
    session: str | None = None,
    ip: str | None = None,
) -> Verification:
    """Call a number with a fresh code and return the verification that the code completes.

    Args:
        phone: the number, in any way a person writes it.
        channel: ``flash_call`` or ``voice_code``; the site's first choice if omitted.
        purpose: a key of ``PURPOSES``; the token serves this purpose only.
        user: who starts it, if logged in; then only this user can go on with it.
        session: a random value kept in the visitor's session; then only this session can go on.
        ip: the visitor's address, for the limits.

    Returns:
        the verification; its `newest_call` says what is known of the call. A call whose outcome is
        unknown is no error: the phone may be ringing.

    Raises:
        InvalidPhone, InvalidValue, PhoneNotAllowed: before anything is spent.
        Cooldown, TooManyCalls: a limit forbids the call.
        InvalidDestination, DuplicateCall, ProviderUnavailable: what became of the call.
        RuntimeError: called inside a transaction, so that a rollback could undo a count.
    """
    number = phones.parse(phone)
    serves = _purpose(purpose)
    test_code = conf.TEST_NUMBERS.get(number)
    now = timezone.now()
    source = visitors.source(ip)
    with _refusals(number, source, now):
        stopped = _stopped(number)
        channel = _channel(channel, serves, stopped)
    # Read outside the transaction, which then begins with a write: SQLite refuses to turn a
    # transaction that has read into one that writes while another writes.
    row = Phone.objects.filter(number=number).first() or Phone(number=number)
    length = len(test_code) if test_code else serves.code_length
    with _refusals(number, source, now):
        if test_code is None:
            fraud_guard.check(row, source, now, tokens.account_of(user))
    with in_flight.Slot() as slot:
        with _refusals(number, source, now), _counting():
            reservation = limits.reserve(row, source, now)
            verification = Verification.objects.create(
                phone=row,
                purpose=purpose,
                channel=channel,
                code_length=length,
                max_attempts=serves.max_attempts,
                attempts_left=serves.max_attempts,
                calls_left=serves.max_calls - 1,
                user=tokens.account_of(user),
                session=session or "",
                ip=ip,
                created_at=now,
                expires_at=now + timedelta(seconds=serves.code_ttl),
            )
            verification.stopped = stopped
            call, code = _queue(verification, channel, source, now)
            if not call.is_test:
                slot.take()
        refusals.watch_budget(reservation.spent, now)
        calls.place(call, code, reservation.before)
    return verification


def resend(
    verification: Verification, *, channel: str | None = None, ip: str | None = None
) -> Verification:
    """Call the number of a pending verification once more, with a fresh code.

    Attempts and expiry stay as they are. The code of the call before stops verifying, unless the
    new call is rejected.

    Args:
        verification: as `find` or `start` returned it.
        channel: another channel, or None for the same.
        ip: the visitor's address, for the limits.

    Returns:
        the verification, brought up to date.

    Raises:
        AlreadyVerified, VerificationCancelled, VerificationExpired, TooManyAttempts: it is over.
        TooManyCalls, Cooldown: a limit forbids the call.
        InvalidDestination, DuplicateCall, ProviderUnavailable: what became of the call.
        RuntimeError: called inside a transaction.
    """
    serves = _purpose(verification.purpose)
    number = verification.phone.number
    now = timezone.now()
    source = visitors.source(ip)
    with _refusals(number, source, now):
        stopped = _stopped(number)
        channel = _channel(channel or verification.channel, serves, stopped)
        if number not in conf.TEST_NUMBERS:
            fraud_guard.check(verification.phone, source, now, verification.user)
    with in_flight.Slot() as slot:
        with _refusals(number, source, now), _counting():
            spent = _pending(verification, now).filter(calls_left__gt=0)
            resent = spent.update(calls_left=F("calls_left") - 1, channel=channel)
            if resent:
                verification.refresh_from_db(from_queryset=_with_phone())
                verification.stopped = stopped
                reservation = limits.reserve(verification.phone, source, now)
                call, code = _queue(verification, channel, source, now)
                if not call.is_test:
                    slot.take()
        if not resent:
            raise _refusal(verification, source, on_form=True)
        refusals.watch_budget(reservation.spent, now)
        calls.place(call, code, reservation.before)
    return verification


def check(verification: Verification, code: str, *, ip: str | None = None) -> str:
    """Spend an attempt on a code and, if it is right, return the token that proves the number.

    Args:
        verification: as `find` or `start` returned it.
        code: what the person typed; blanks, dashes and other scripts' digits are understood.
        ip: the visitor's address.

    Returns:
        the token: redeem it once, within ``TOKEN_MAX_AGE`` seconds.

    Raises:
        InvalidCode: it cannot be the code; no attempt is spent.
        WrongCode: an attempt was spent.
        TooManyAttempts: no attempts are left, or the number waits after too many wrong codes.
        AlreadyVerified, VerificationCancelled, VerificationExpired: it is over.
        RuntimeError: called inside a transaction, so that a rollback could undo the count.
    """
    code = codes.normalise(code)
    now = timezone.now()
    if verification.is_pending and not codes.is_code(code, verification.code_length):
        raise InvalidCode(verification.code_length)
    right = False
    source = visitors.source(ip)
    with _refusals(verification.phone.number, source, now), _counting():
        spent = _pending(verification, now).update(attempts_left=F("attempts_left") - 1)
        if spent:
            right = _evaluate(verification, code, ip, source)
    if not spent:
        raise _refusal(verification, source)
    if not right:
        raise WrongCode(verification.attempts_left)
    signals.phone_verified.send_robust(Verification, verification=verification)
    return tokens.issue(verification)


def cancel(verification: Verification) -> None:
    """End a pending verification; nothing is given back to any limit. Others stay as they are."""
    with transaction.atomic(using=_database()):
        pending = _pending(verification, timezone.now())
        if pending.update(state=Verification.State.CANCELLED):
            verification.erase_codes()
    verification.refresh_from_db(from_queryset=_with_phone())


# What the functions above are made of, in the order of their use.


def _database() -> str:
    return router.db_for_write(Verification)


def _counting() -> transaction.Atomic:
    """A transaction that is committed when its block ends, whoever calls us."""
    return transaction.atomic(using=_database(), durable=True)


def _purpose(name: str) -> Purpose:
    try:
        return conf.PURPOSES[name]
    except KeyError:
        raise InvalidValue(_("Unknown purpose."), field="purpose") from None


@contextmanager
def _refusals(number: str, source: Source, now: datetime) -> Iterator[None]:
    """Count what is refused within, once the transaction that refused it has ended."""
    try:
        yield
    except FlashcallError as refusal:
        refusals.count(refusal, number, source, now)
        raise


def _stopped(number: str) -> Collection[str]:
    """Refuse a number that must not be called; return the channels that operators have stopped."""
    if number in conf.TEST_NUMBERS:
        return ()  # it is not called at all
    return rules.check_allowed(number).stopped


def _channel(name: str | None, purpose: Purpose, stopped: Collection[str]) -> str:
    offered = conf.channels_for(purpose)
    if name is not None and name not in offered:
        raise InvalidValue(_("This type of call isn't available."), field="channel")
    working = [channel for channel in offered if channel not in stopped]
    if not working or (name is not None and name not in working):
        raise ProviderUnavailable(scope=Refusal.Scope.CHANNEL)
    return name or working[0]


def _with_phone() -> QuerySet[Verification]:
    return Verification.objects.using(_database()).select_related("phone")


def _pending(verification: Verification, now: datetime) -> QuerySet[Verification]:
    """The row of a verification, if it can still be completed; conditions on its own columns only.

    (A join would be evaluated on the old version of a row that another transaction just changed.)
    """
    return Verification.objects.filter(
        pk=verification.pk,
        state=Verification.State.PENDING,
        attempts_left__gt=0,
        expires_at__gt=now,
    )


def _queue(
    verification: Verification, channel: str, source: Source, now: datetime
) -> tuple[Call, Secret]:
    """Write down a call that is about to be asked for; return it with its fresh code.

    The code is empty where the provider chooses it: nothing verifies before its answer.
    """
    number = verification.phone.number
    test_code = conf.TEST_NUMBERS.get(number)
    alias = "" if test_code else conf.CHANNELS[channel][0]
    if test_code:
        code = Secret(test_code)
    elif calls.chooses_code(alias):
        code = Secret()
    else:
        code = codes.generate(verification.code_length)
    call = Call.objects.create(
        verification=verification,
        phone=verification.phone,
        channel=channel,
        backend=alias,
        code_digest=codes.digest(code, verification.pk) if code else "",
        prefix=phones.prefix(number),
        country=phones.country(number),
        network=source.network,
        wide_network=source.wide_network,
        is_test=test_code is not None,
        created_at=now,
    )
    verification.newest_call = call
    return call, code


def _evaluate(verification: Verification, code: str, ip: str | None, source: Source) -> bool:
    """Compare a code for which an attempt is spent, and write down what follows."""
    now = timezone.now()
    call = Call.newest(verification.pk, placed=True, beside=limits.failures(source, now))
    if call is None:  # every call was rejected: no code can be right
        return False
    fresh, phone = call.verification, call.verification.phone
    # Raised out of the transaction: what is refused here was not evaluated and is not spent.
    limits.check_failures(call, source, now)
    waits = phone.waits_until is not None and phone.waits_until > now
    if waits and fresh.attempts_left + 1 < fresh.max_attempts:
        # A verification without a wrong code of its own goes on: strangers' guesses do not stop it.
        raise TooManyAttempts(
            retry_after=limits.retry_after(phone, source, now), scope=Refusal.Scope.NUMBER
        )
    right = codes.matches(code, verification.pk, call.code_digest)
    Attempt.objects.create(
        verification=verification,
        right=right,
        ip=ip,
        network=source.network,
        wide_network=source.wide_network,
        created_at=now,
    )
    verification.attempts_left = fresh.attempts_left
    if right:
        Verification.objects.filter(pk=verification.pk).update(
            state=Verification.State.VERIFIED, verified_at=now
        )
        verification.state, verification.verified_at = Verification.State.VERIFIED, now
        Phone.objects.filter(pk=phone.pk).update(failures=0, waits_until=None, verified_at=now)
    else:
        limits.count_failure(phone, now)
    if not verification.is_pending:
        verification.erase_codes()
    return right


def _refusal(
    verification: Verification, source: Source, *, on_form: bool = False
) -> FlashcallError:
    """Return why a verification can do no more, as its row says now."""
    try:
        verification.refresh_from_db(from_queryset=_with_phone())
    except Verification.DoesNotExist:
        return VerificationNotFound()  # erased since it was read
    refusal: FlashcallError
    match verification.status:
        case Verification.State.VERIFIED | Verification.State.REDEEMED:
            refusal = AlreadyVerified()
        case Verification.State.CANCELLED:
            refusal = VerificationCancelled()
        case Verification.EXPIRED:
            verification.erase_codes()
            refusal = VerificationExpired()
        case Verification.State.FAILED:
            refusal = TooManyAttempts(
                retry_after=limits.retry_after(verification.phone, source, timezone.now()),
                attempts_left=0,
            )
        case _:
            refusal = TooManyCalls(
                _("No more calls are available. Enter the code or start again."),
                retry_after=limits.retry_after(verification.phone, source, timezone.now()),
            )
    if on_form:
        refusal.field = None
    return refusal
