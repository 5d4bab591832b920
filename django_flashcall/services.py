"""Functions to start, resend, check, cancel and redeem verifications, for your code and our views.

Three rules apply. Commit the call row and the counters before contacting the provider, and keep
no transaction open while waiting for it: `start`, `resend`, `check`, `find_and_check`, `place_call`
and `pretend_call` therefore refuse to run inside a transaction. Spend attempts and calls with a
conditional ``UPDATE``, and trust nothing that was read before, so that concurrent requests cannot
spend the same one. Raise an error after the transaction that counted it, not inside it.

Except in `sign_up`, a transaction is run again after a deadlock or a serialization failure, so its
function changes nothing but the database, and objects that it makes or reloads. Other errors of the
database are raised as they are; the API and the pages answer 503.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import phones, signals
from .conf import CODE_LENGTHS, Purpose, conf
from .database_errors import transact
from .delivery.reports import record_report
from .exceptions import (
    FlashcallError,
    InvalidCode,
    InvalidValue,
    ProviderUnavailable,
    TemporaryFailure,
    TooManyAttempts,
    TooManyCalls,
    VerificationNotFound,
    WrongCode,
)
from .models import Call, Refusal, Verification
from .models.verifications import LONGEST_SESSION
from .prepared.keys import has_plain_key, is_key_of
from .privacy.retention import forget, prune
from .protection import devices, facts, fraud_guard, limits, refusals, rules, visitors
from .protection.challenges import require_challenge
from .protection.devices import issue as issue_device
from .protection.devices import marks_of as device_of
from .protection.visitors import Source, client_ip
from .redaction import Secret
from .verification import breaker, calls, codes, dispatch, guesses, in_flight, tokens
from .verification.accounts import Person, account_of, create_user
from .verification.lookup import explain, find, has_verified_phone, phone_of
from .verification.owners import remove_phone
from .verification.storing import Stored, Storing
from .verification.threads import asynchronous
from .verification.tokens import confirm_call, log_in, read_token, redeem, sign_up

__all__ = [
    "PlacedCall",
    "acancel",
    "acheck",
    "aconfirm_call",
    "afind",
    "afind_and_check",
    "alog_in",
    "aphone_of",
    "aplace_call",
    "aredeem",
    "aremove_phone",
    "aresend",
    "astart",
    "cancel",
    "check",
    "check_limits",
    "client_ip",
    "confirm_call",
    "create_user",
    "device_of",
    "find",
    "find_and_check",
    "forget",
    "has_verified_phone",
    "issue_device",
    "log_in",
    "phone_of",
    "place_call",
    "pretend_call",
    "prune",
    "read_token",
    "record_report",
    "redeem",
    "remove_phone",
    "require_challenge",
    "resend",
    "sign_up",
    "start",
]


class PlacedCall(NamedTuple):
    """The result of `place_call`."""

    verification: Verification
    code: str
    """The code that was called with; its ``repr`` is masked."""


NOBODY = ""
"""The alias in a plan that calls nobody."""

NO_CALLS_LEFT = _("No more calls are available. Enter the code or start again.")


def start(
    phone: str,
    *,
    channel: str | None = None,
    purpose: str = "signup",
    user: Person = None,
    session: str | None = None,
    ip: str | None = None,
    device: str | None = None,
    challenged: bool = False,
) -> Verification:
    """Call a number with a new code and return its verification.

    Args:
        phone: the number, in any common format.
        channel: ``flash_call`` or ``voice_code``; the site's first channel by default.
        purpose: a key of ``PURPOSES``; the token is valid for this purpose only.
        user: the visitor, if logged in; then only this user can continue.
        session: a random value from the visitor's session, of 64 characters at most; then only
            this session can continue.
        ip: the visitor's IP address, for the limits.
        device: what `device_of` returns for the request: a visitor who verified the number before
            has calls and attempts of their own.
        challenged: what `require_challenge` returns.

    Returns:
        the verification; its `newest_call` is the call. An unknown outcome is not an error: the
        phone may be ringing.

    Raises:
        InvalidPhone, InvalidValue, PhoneNotAllowed: the input is refused; nothing is spent.
        Cooldown, TooManyCalls: a limit is reached.
        InvalidDestination, DuplicateCall, ProviderUnavailable: the call failed.
        ValueError: the session's value is too long.
        RuntimeError: called inside a transaction, whose rollback would undo the counts.
    """
    number = phones.parse(phone)
    call, _code = _start(
        number,
        _purpose(purpose),
        channel=channel,
        user=user,
        session=session,
        ip=ip,
        device=device,
        challenged=challenged,
    )
    return call.verification


def resend(
    verification: Verification,
    *,
    channel: str | None = None,
    ip: str | None = None,
    challenged: bool = False,
) -> Verification:
    """Call the number of a pending verification again, with a new code.

    Attempts and expiry time do not change. The previous code becomes invalid, unless the new call
    is rejected.

    Args:
        verification: the result of `find` or `start`.
        channel: another channel; None keeps the current one.
        ip: the visitor's IP address, for the limits.
        challenged: what `require_challenge` returns.

    Returns:
        the verification, refreshed.

    Raises:
        AlreadyVerified, VerificationCancelled, VerificationExpired, TooManyAttempts: it has ended.
        TooManyCalls, Cooldown: a limit is reached.
        InvalidDestination, DuplicateCall, ProviderUnavailable: the call failed.
        RuntimeError: called inside a transaction.
    """
    config = _purpose(verification.purpose)
    number = verification.phone.number
    now = timezone.now()
    source = _source(verification, ip)
    with _count_errors(number, source, now):
        # A call can fail: the person who may have passed gets a second one, unless a person closed
        # the range or the address.
        is_first = verification.calls_left >= config.max_calls - 1
        found, usage = _look_up(number, source, now)
        length = max(config.code_length, verification.code_length)
        if channel is None and verification.channel in conf.channels_with(length):
            channel = verification.channel
        channel = _choose_channel(channel, length, found.stopped)
        plan = _plan(number, channel, found, now)
        passage = None
        if number not in conf.TEST_NUMBERS and is_first:
            fraud_guard.check_closed(found.phone, source, now)
        elif number not in conf.TEST_NUMBERS:
            passage = fraud_guard.check(
                found.phone, source, now, spent=usage.spent, challenged=challenged
            )
        limits.prepare(now)
    with in_flight.Slot() as slot:

        def begin() -> Stored | None:
            spent = guesses.pending(verification.pk, now).filter(calls_left__gt=0)
            if not spent.update(calls_left=F("calls_left") - 1, channel=channel):
                return None
            fresh = copy(verification)  # the caller's must not see what is rolled back
            fresh.refresh_from_db(from_queryset=_with_phone())
            fresh.stopped = found.stopped
            return Storing(plan, source, now, slot, passage).next_call(fresh, usage)

        with _count_errors(number, source, now):
            stored = transact(begin, _database(), durable=True)
        if stored is None:
            raise _state_error(verification, source, on_form=True)
        vars(verification).update(vars(stored.call.verification))
        stored.call.verification = verification
        _place(stored, plan)
    return verification


def check(
    verification: Verification, code: str, *, ip: str | None = None, durable: bool = True
) -> str:
    """Check a code, spend an attempt, and return a token if the code is right.

    Args:
        verification: the result of `find` or `start`.
        code: the code as typed; spaces, dashes and digits of any script are accepted.
        ip: the visitor's IP address, for the limits.
        durable: False joins the caller's transaction. The caller must then commit it whatever this
            raises: a rollback would give the attempt back.

    Returns:
        the token; it can be redeemed once, within ``TOKEN_MAX_AGE`` seconds.

    Raises:
        InvalidCode: it cannot be a code; no attempt is spent.
        WrongCode: the code is wrong; an attempt is spent.
        TooManyAttempts: no attempts are left, or the number is locked after too many wrong codes.
        AlreadyVerified, VerificationCancelled, VerificationExpired: it has ended.
        InvalidDestination, DuplicateCall, ProviderUnavailable: no call of it was placed; start
            again.
        RuntimeError: called inside a transaction, whose rollback would undo the count, without
            ``durable=False``.
    """
    code = codes.normalise(code)
    if verification.is_pending and not codes.is_code(code, verification.code_length):
        raise InvalidCode(verification.code_length)
    guess = guesses.Guess(verification.pk, code, ip)
    if not guess.evaluate(durable=durable):
        raise _state_error(verification, _source(verification, ip))
    if guess.verification is not None:
        for name in ("attempts_left", "state", "verified_at", "verified_ip"):
            setattr(verification, name, getattr(guess.verification, name))
    return _token(verification, guess, durable=durable)


def find_and_check(
    id: UUID | str,
    code: str,
    *,
    user: Person = None,
    session: str | None = None,
    ip: str | None = None,
) -> tuple[Verification, str]:
    """Do what `find` and `check` do, with one query less.

    Args:
        id: the id of the verification, also as a string.
        user, session: see `find`.
        code, ip: see `check`.

    Returns:
        the verification and the token.

    Raises:
        VerificationNotFound: see `find`.
        InvalidCode, WrongCode, TooManyAttempts, AlreadyVerified, VerificationCancelled,
        VerificationExpired, RuntimeError: see `check`.
    """
    code = codes.normalise(code)
    try:
        id = UUID(str(id))
    except ValueError:
        raise VerificationNotFound from None
    guess = guesses.Guess(id, code, ip)
    visitor = guesses.Visitor(account_of(user), session)
    # What cannot be its code spends nothing here.
    if codes.is_code(code, len(code)) and guess.evaluate(visitor):
        found = guess.verification or find(id, user=user, session=session)
        return found, _token(found, guess)
    found = find(id, user=user, session=session)
    return found, check(found, code, ip=ip)


def place_call(
    phone: str,
    code: str | None = None,
    *,
    purpose: str,
    code_length: int | None = None,
    channel: str | None = None,
    user: Person = None,
    ip: str | None = None,
    challenged: bool = False,
) -> PlacedCall:
    """Call a number with a code that another system checks, such as a package for two factors.

    Limits, rules, the fraud guard and delivery reports apply as for `start`. Call `confirm_call`
    when the other system has accepted the code. Otherwise the call counts as unverified, and the
    limits refuse later calls.

    Args:
        phone: the number, in any common format.
        code: 4 or 6 digits; None for a new code, chosen by the provider or generated.
        purpose: a name of the other system, for the admin and statistics: 1 to 32 letters, digits,
            dashes and underscores, and not a key of ``PURPOSES``. Visitors of the API and of the
            pages cannot use its verifications.
        code_length: number of digits of a new code, 4 or 6; ``CODE_LENGTH`` by default.
        channel: ``flash_call`` or ``voice_code``; by default the site's first one that has codes of
            this length.
        user: the visitor, if logged in.
        ip: the visitor's IP address, for the limits.
        challenged: what `require_challenge` returns.

    Returns:
        the verification of the call, and the code.

    Raises:
        InvalidPhone, InvalidValue, PhoneNotAllowed: the input is refused; nothing is spent.
        Cooldown, TooManyCalls: a limit is reached.
        InvalidDestination, DuplicateCall, ProviderUnavailable: the call failed, or the provider's
            response with the code that it chose was lost.
        ImproperlyConfigured: there is a `code`, but the providers of the channel choose the codes.
        ValueError: the code, its length or the purpose cannot be used.
        RuntimeError: called inside a transaction, whose rollback would undo the counts.
    """
    code = given = None if code is None else Secret(code)
    length = _length(code_length if given is None else len(given))
    if given is not None and not codes.is_code(given, length):
        raise ValueError("The code must have 4 or 6 digits.")
    call, placed = _start(
        phones.parse(phone),
        conf.other_purpose(purpose, length),
        channel=channel,
        user=user,
        session=None,
        ip=ip,
        code=given,
        returns_code=True,
        challenged=challenged,
    )
    if not placed:  # the phone may be ringing with a code that nobody knows
        wait = limits.retry_after(call.phone, visitors.source(ip), timezone.now())
        raise ProviderUnavailable(retry_after=wait)
    return PlacedCall(call.verification, placed)


def check_limits(
    phone: str,
    *,
    code_length: int | None = None,
    channel: str | None = None,
    ip: str | None = None,
) -> None:
    """Raise the error that `place_call` would raise now. Nothing is called or spent.

    For forms of another system that save something before the call. A call can still be refused
    afterwards: other requests may be faster, and the fraud guard judges calls only.

    Args:
        phone, code_length, channel, ip: see `place_call`.

    Raises:
        InvalidPhone, InvalidValue, PhoneNotAllowed: the input is refused.
        Cooldown, TooManyCalls: a limit is reached.
        ProviderUnavailable: the calls are stopped, or all providers are paused.
        ValueError: the length cannot be used.
    """
    number = phones.parse(phone)
    length = _length(code_length)
    now = timezone.now()
    source = visitors.source(ip)
    with _count_errors(number, source, now):
        found, usage = _look_up(number, source, now)
        _plan(number, _choose_channel(channel, length, found.stopped), found, now)
        limits.check(found.phone, source, now, usage)


def pretend_call(
    phone: str,
    *,
    purpose: str,
    code_length: int | None = None,
    channel: str | None = None,
    user: Person = None,
    ip: str | None = None,
    challenged: bool = False,
) -> Verification:
    """Do what `place_call` does, but call nobody.

    For requests whose response must not tell whether the number has an account: limits, rules, the
    fraud guard and their errors are those of a call. The rows are marked as not placed.

    Args:
        phone, code_length, channel, user, ip, challenged: see `place_call`.
        purpose: see `place_call`; not that of the calls, so that `confirm_call` does not find it.

    Returns:
        the verification; nothing verifies it.

    Raises:
        InvalidPhone, InvalidValue, PhoneNotAllowed, Cooldown, TooManyCalls, ProviderUnavailable,
        ImproperlyConfigured, ValueError, RuntimeError: see `place_call` with a code.
    """
    number = phones.parse(phone)
    code = Secret(conf.TEST_NUMBERS.get(number) or codes.generate(_length(code_length)))
    call, _code = _start(
        number,
        conf.other_purpose(purpose, len(code)),
        channel=channel,
        user=user,
        session=None,
        ip=ip,
        code=code,
        returns_code=True,
        pretends=True,
        challenged=challenged,
    )
    return call.verification


def cancel(verification: Verification) -> None:
    """Cancel a pending verification; a finished one does not change. No limit is refunded.

    Args:
        verification: the result of `find` or `start`. It is reloaded, unless it was deleted.
    """

    def finish() -> None:
        pending = guesses.pending(verification.pk, timezone.now())
        if pending.update(state=Verification.State.CANCELLED):
            verification.erase_codes()

    transact(finish, _database())
    with suppress(Verification.DoesNotExist):  # erased or pruned in the meantime
        verification.refresh_from_db(from_queryset=_with_phone())


# For asynchronous code: the same arguments, results and errors.
astart = asynchronous(start, waits=True)
aresend = asynchronous(resend, waits=True)
acheck = asynchronous(check)
acancel = asynchronous(cancel)
aredeem = asynchronous(redeem)
aplace_call = asynchronous(place_call, waits=True)
aconfirm_call = asynchronous(confirm_call)
afind = asynchronous(find)
afind_and_check = asynchronous(find_and_check)
aphone_of = asynchronous(phone_of)
alog_in = asynchronous(log_in)
aremove_phone = asynchronous(remove_phone)


# Helpers, in the order of use.


def _length(code_length: int | None) -> int:
    length = conf.CODE_LENGTH if code_length is None else code_length
    if length not in CODE_LENGTHS:
        raise ValueError("The code must have 4 or 6 digits.")
    return length


def _start(
    number: str,
    purpose: Purpose,
    *,
    channel: str | None,
    user: Person,
    session: str | None,
    ip: str | None,
    device: str | None = None,
    challenged: bool = False,
    code: Secret | None = None,
    returns_code: bool = False,
    pretends: bool = False,
) -> tuple[Call, Secret]:
    """Call a number, and return its newest call with the code.

    Args:
        number: the number in E.164 format.
        purpose: the settings of the verification.
        channel, user, session, ip, device, challenged: see `start`.
        code: the code to call with; None for a new one.
        returns_code: the code must be known when this returns. It is empty if it is not.
        pretends: nobody is called.
    """
    if session and len(session) > LONGEST_SESSION:
        raise ValueError(f"The session has {len(session)} characters, more than {LONGEST_SESSION}.")
    test_code = conf.TEST_NUMBERS.get(number)
    account = account_of(user)
    now = timezone.now()
    address = visitors.parse_address(ip)
    source = visitors.source(ip)._replace(is_known=devices.is_known(number, device))
    with _count_errors(number, source, now):
        # Read before the transaction, so that it begins with a write: on SQLite, a transaction
        # that has read cannot wait for another one that writes.
        found, usage = _look_up(number, source, now, account=account)
        is_current = source.is_known or not found.is_owner
        source = source._replace(is_known=source.is_known or found.is_owner)
        channel = _choose_channel(channel, purpose.code_length, found.stopped)
        if code is None and test_code is not None and len(test_code) < purpose.code_length:
            raise ProviderUnavailable(scope=Refusal.Scope.CHANNEL)  # the system checks report it
        plan = _plan(number, channel, found, now)
        if returns_code:
            plan = _fix_code(plan, code or test_code, channel, purpose)
        if pretends:
            plan = plan._replace(aliases=[NOBODY])
        passage = None
        if test_code is None:
            passage = fraud_guard.check(
                found.phone, source, now, spent=usage.spent, challenged=challenged
            )
        limits.prepare(now)
    with in_flight.Slot() as slot:
        verification = Verification(
            phone=found.phone,
            purpose=purpose.name,
            channel=channel,
            code_length=len(plan.code or test_code or "") or purpose.code_length,
            max_attempts=purpose.max_attempts,
            attempts_left=purpose.max_attempts,
            calls_left=purpose.max_calls - 1,
            user=account,
            # If the account is deleted, nobody can continue without this value.
            session=session or (secrets.token_urlsafe(16) if account else ""),
            is_known=source.is_known,
            ip=None if address is None else str(address),
            created_at=now,
            expires_at=now + timedelta(seconds=purpose.code_ttl),
        )
        verification.stopped = found.stopped
        with _count_errors(number, source, now):
            storing = Storing(plan, source, now, slot, passage)
            # Owners have limits of their own.
            stored = storing.first_call(verification, usage if is_current else None)
        verification = stored.call.verification
        verification.newest_call = stored.call
        signals.verification_started.send_robust(Verification, verification=verification)
        code = _place(stored, plan)
    return verification.newest_call, code


def _source(verification: Verification, ip: str | None) -> Source:
    return visitors.source(ip)._replace(is_known=verification.is_known)


def _database() -> str:
    return router.db_for_write(Verification)


def _purpose(name: str) -> Purpose:
    try:
        return conf.PURPOSES[name]
    except KeyError:
        raise InvalidValue(_("Unknown purpose."), field="purpose") from None


@contextmanager
def _count_errors(number: str, source: Source, now: datetime) -> Iterator[None]:
    """Count an error raised in the block; the transaction inside it has ended by then."""
    try:
        yield
    except FlashcallError as error:
        refusals.count(error, number, source, now)
        raise


def _look_up(number: str, source: Source, now: datetime, *, account: Person = None) -> facts.Facts:
    """Return what is stored that decides about a call.

    Args:
        number: the number in E.164.
        source: the source of the request.
        now: time of the request.
        account: the visitor, if logged in.

    Raises:
        PhoneNotAllowed: the number must not be called.
    """
    person: Any = account
    is_plain = person is not None and has_plain_key(person)
    found = facts.look(number, source, now, account=person.pk if is_plain else None)
    # Primary keys of unusual types are compared here.
    if person is not None and not is_plain and found.judgement.phone.pk is not None:
        is_owner = is_key_of(person, found.judgement.phone.owner_id)
        found = found._replace(judgement=replace(found.judgement, is_owner=is_owner))
    if number in conf.TEST_NUMBERS:  # they are never called
        return found._replace(judgement=replace(found.judgement, stopped=()))
    rules.check_allowed(found.judgement)
    return found


def _choose_channel(name: str | None, code_length: int, stopped: Collection[str]) -> str:
    offered = conf.channels_with(code_length)
    if name is not None and name not in offered:
        raise InvalidValue(_("This type of call isn't available."), field="channel")
    working = [channel for channel in offered if channel not in stopped]
    if not working or (name is not None and name not in working):
        raise ProviderUnavailable(scope=Refusal.Scope.CHANNEL)
    return name or working[0]


def _with_phone() -> QuerySet[Verification]:
    return Verification.objects.using(_database()).select_related("phone")


def _plan(number: str, channel: str, found: rules.Judgement, now: datetime) -> dispatch.Plan:
    if number in conf.TEST_NUMBERS:
        return dispatch.Plan([NOBODY], found)
    return dispatch.Plan(breaker.usable(conf.CHANNELS[channel], found.breakers, now), found)


def _fix_code(
    plan: dispatch.Plan, code: Secret | str | None, channel: str, purpose: Purpose
) -> dispatch.Plan:
    """Choose the code before the calls, unless the provider that is tried first chooses it.

    Raises:
        ImproperlyConfigured, ProviderUnavailable: there is a code, but all providers choose theirs,
            or all those that are available.
    """
    if code is None:
        if calls.chooses_code(plan.aliases[0]):
            return plan._replace(awaits_code=True)
        code = codes.generate(purpose.code_length)
    able = [alias for alias in plan.aliases if not calls.chooses_code(alias)]
    if not able:
        if all(map(calls.chooses_code, conf.CHANNELS[channel])):
            raise ImproperlyConfigured(
                f"The providers of {channel!r} choose the codes, so they cannot call with yours."
            )
        raise ProviderUnavailable(scope=Refusal.Scope.BREAKER)
    return plan._replace(aliases=able, code=Secret(code))


def _place(stored: Stored, plan: dispatch.Plan) -> Secret:
    call, code, reservation = stored
    call.verification.newest_call = call
    refusals.watch_budget(reservation.spent, reservation.at)
    if dispatch.needs_worker(call, plan):
        from . import tasks  # needs Django's task framework

        tasks.enqueue(call, reservation)
        return code
    if call.phone.number not in conf.TEST_NUMBERS:  # pretended calls too: see `pretend_call`
        renewed = limits.renew(call, reservation)
        if renewed is None:
            late = TemporaryFailure("The request waited too long: for the database, or a receiver.")
            raise calls.fail(call, late, reservation) or ProviderUnavailable()
        reservation = renewed
    return dispatch.place(call, code, reservation, plan)


def _token(verification: Verification, guess: guesses.Guess, *, durable: bool = True) -> Secret:
    """Return the token of a right code.

    Raises:
        WrongCode: it was wrong.
    """
    if not guess.right:
        raise WrongCode(verification.attempts_left)

    def announce() -> None:
        signals.phone_verified.send_robust(Verification, verification=verification)

    if durable:
        announce()
    else:
        transaction.on_commit(announce, using=_database())
    return tokens.issue(verification)


def _state_error(
    verification: Verification, source: Source, *, on_form: bool = False
) -> FlashcallError:
    """Reload a verification and return the error that explains its current state."""
    try:
        verification.refresh_from_db(from_queryset=_with_phone())
    except Verification.DoesNotExist:
        return VerificationNotFound()  # deleted in the meantime
    if verification.status == Verification.EXPIRED:
        verification.erase_codes()
    if verification.state == Verification.State.FAILED:
        verification.newest_call = verification.written_calls.latest("pk")
    error = explain(verification) or TooManyCalls(NO_CALLS_LEFT)
    if isinstance(error, TooManyAttempts):
        error.attempts_left = 0
    if isinstance(error, (TooManyAttempts, TooManyCalls)):
        error.retry_after = limits.retry_after(verification.phone, source, timezone.now())
    if on_form:
        error.field = None
    return error
