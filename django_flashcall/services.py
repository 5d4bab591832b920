"""The conductor: start, resend, check, cancel and redeem, for a site's own code and for our faces.

Three rules shape every function. Rows that count or tell of a call are committed before the provider
is asked, and no transaction is open while we wait for it: `start`, `resend` and `check` therefore
refuse to run inside somebody's transaction. What is spent is spent by a conditional ``UPDATE`` first
and looked at second, so that simultaneous requests cannot share it. And an error is raised after the
transaction that counted it, never out of it.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.db import DatabaseError, router, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from . import codes, limits, phones, signals, visitors
from .backends import CallRequest, get_backend
from .conf import Purpose, conf
from .exceptions import (
    AlreadyVerified,
    DuplicateCall,
    FlashcallError,
    InvalidCode,
    InvalidDestination,
    InvalidToken,
    InvalidValue,
    Misconfigured,
    NumberRejected,
    DuplicateRejected,
    PhoneTaken,
    ProviderError,
    ProviderUnavailable,
    TooManyAttempts,
    TooManyCalls,
    UnknownOutcome,
    VerificationCancelled,
    VerificationExpired,
    VerificationNotFound,
    WrongCode,
)
from .models import Attempt, Call, Phone, Verification
from .redaction import Secret

logger = logging.getLogger("django_flashcall")

User = TypeVar("User", bound=AbstractBaseUser)
Person = AbstractBaseUser | AnonymousUser | None

TOKEN_SALT = "django_flashcall.token"

TROUBLE_LOGGED_EVERY = 600
"""Seconds for which the same trouble with a backend is logged once: a flood would hide it."""


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
    channel = _channel(channel, serves)
    test_code = conf.TEST_NUMBERS.get(number)
    if test_code is None:
        phones.check_allowed(number)
    # Read outside the transaction, which then begins with a write: SQLite refuses to turn a
    # transaction that has read into one that writes while another writes.
    row = Phone.objects.filter(number=number).first() or Phone(number=number)
    now = timezone.now()
    network = visitors.network(ip)
    length = len(test_code) if test_code else serves.code_length
    with _counting():
        before = limits.reserve(row, network, now)
        verification = Verification.objects.create(
            phone=row,
            purpose=purpose,
            channel=channel,
            code_length=length,
            max_attempts=serves.max_attempts,
            attempts_left=serves.max_attempts,
            calls_left=serves.max_calls - 1,
            user=user if user is not None and user.is_authenticated else None,
            session=session or "",
            ip=ip,
            created_at=now,
            expires_at=now + timedelta(seconds=serves.code_ttl),
        )
        call, code = _queue(verification, channel, network, now)
    _place(call, code, before)
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
    channel = _channel(channel or verification.channel, serves)
    now = timezone.now()
    network = visitors.network(ip)
    with _counting():
        spent = _pending(verification, now).filter(calls_left__gt=0)
        resent = spent.update(calls_left=F("calls_left") - 1, channel=channel)
        if resent:
            verification.refresh_from_db(from_queryset=_with_phone())
            before = limits.reserve(verification.phone, network, now)
            call, code = _queue(verification, channel, network, now)
    if not resent:
        raise _refusal(verification, network, on_form=True)
    _place(call, code, before)
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
    with _counting():
        spent = _pending(verification, now).update(attempts_left=F("attempts_left") - 1)
        if spent:
            right = _evaluate(verification, code, ip)
    if not spent:
        raise _refusal(verification, visitors.network(ip))
    if not right:
        raise WrongCode(verification.attempts_left)
    signals.phone_verified.send_robust(Verification, verification=verification)
    return Secret(signing.dumps(verification.pk.hex, salt=TOKEN_SALT))


def cancel(verification: Verification) -> None:
    """End a pending verification; nothing is given back to any limit. Others stay as they are."""
    with transaction.atomic(using=_database()):
        pending = _pending(verification, timezone.now())
        if pending.update(state=Verification.State.CANCELLED):
            _erase_codes(verification)
    verification.refresh_from_db()


def find(
    verification: UUID, *, user: Person = None, session: str | None = None
) -> Verification:
    """Return a verification that a visitor may see, with its number and newest call, in one query.

    Args:
        verification: its id.
        user: the visitor, if logged in.
        session: the random value of the visitor's session.

    Raises:
        VerificationNotFound: there is none, or a user or session other than these started it.
    """
    call = Call.newest(verification)
    if call is None or not _belongs(call.verification, user, session):
        raise VerificationNotFound
    return call.verification


def read_token(
    token: str, *, purpose: str = "signup", user: Person = None, session: str | None = None
) -> Verification:
    """Return the verification that a token proves, and leave the token unspent.

    Args: as those of `redeem`.

    Raises:
        InvalidToken: forged, old or used, or for another purpose or person.
    """
    serves = conf.PURPOSES.get(purpose)
    if serves is None:
        raise InvalidToken
    try:
        id = UUID(signing.loads(token, salt=TOKEN_SALT, max_age=serves.token_max_age))
    except (signing.BadSignature, ValueError, TypeError, AttributeError):
        raise InvalidToken from None
    verification = _with_phone().filter(pk=id, purpose=purpose).first()
    if (
        verification is None
        or verification.state != Verification.State.VERIFIED
        or not _belongs(verification, user, session)
    ):
        raise InvalidToken
    return verification


def redeem(
    token: str, *, purpose: str = "signup", user: Person = None, session: str | None = None
) -> Phone:
    """Spend a token; the number becomes the user's, and the user's former number is freed.

    Joins the caller's transaction: if that is rolled back, the token is unspent again.

    Args:
        token: what `check` returned.
        purpose: the purpose it must have been started for.
        user: the account that gets the number, saved already; None leaves the owner as it is, for
            purposes such as login. A verification that a user started serves that user alone.
        session: the random value of the visitor's session.

    Returns:
        the number.

    Raises:
        InvalidToken: forged, old or used, or for another purpose or person.
        PhoneTaken: the number belongs to another account; the token stays unspent.
    """
    with transaction.atomic(using=_database()):
        verification = _claim(token, purpose, user, session)
        phone = verification.phone
        account = user if isinstance(user, AbstractBaseUser) else None
        if account is not None:
            # Two numbers redeemed at once for one account must not both become its number.
            get_user_model()._base_manager.select_for_update().get(pk=account.pk)
            _refuse_taken(phone, account)
            _own(phone, account)
            _fill(account, phone.number)
        _announce(phone, account, verification)
    return phone


def sign_up(
    token: str,
    create_user: Callable[[str], User],
    *,
    user: Person = None,
    session: str | None = None,
) -> tuple[User, Phone]:
    """Spend a token of purpose ``signup`` on a new account, in one transaction.

    Args:
        token: what `check` returned.
        create_user: makes and saves the account; it is given the number in E.164, for
            ``USER_PHONE_FIELD``. Whatever it raises leaves the token unspent.
        user: who is logged in while signing up, if anybody: the verification may be theirs.
        session: the random value of the visitor's session.

    Returns:
        the account, and the number that is now its own.

    Raises:
        InvalidToken, PhoneTaken: as `redeem`.
    """
    with transaction.atomic(using=_database()):
        verification = _claim(token, "signup", user, session)
        phone = verification.phone
        _refuse_taken(phone)
        account = create_user(phone.number)
        _own(phone, account)
        _announce(phone, account, verification)
    return account, phone


def create_user(*, password: str, **fields: Any) -> AbstractBaseUser:
    """Make and save an account of whatever user model the site has, as its manager does it."""
    model = get_user_model()
    manager: Any = model._default_manager
    if hasattr(manager, "create_user"):
        account: AbstractBaseUser = manager.create_user(password=password, **fields)
        return account
    account = model(**fields)
    account.set_password(password)
    account.save()
    return account


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
        raise InvalidValue(_("There is no such purpose."), field="purpose") from None


def _channel(name: str | None, purpose: Purpose) -> str:
    offered = conf.channels_for(purpose)
    if name is None and offered:
        return offered[0]
    if name not in offered:
        raise InvalidValue(_("This way of calling is not offered."), field="channel")
    return str(name)


def _with_phone() -> Any:
    return Verification.objects.using(_database()).select_related("phone")


def _pending(verification: Verification, now: datetime) -> Any:
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
    verification: Verification, channel: str, network: str, now: datetime
) -> tuple[Call, Secret]:
    """Write down a call that is about to be asked for; return it with its fresh code."""
    test_code = conf.TEST_NUMBERS.get(verification.phone.number)
    code = Secret(test_code) if test_code else codes.generate(verification.code_length)
    call = Call.objects.create(
        verification=verification,
        phone=verification.phone,
        channel=channel,
        backend="" if test_code else conf.CHANNELS[channel][0],
        code_digest=codes.digest(code, verification.pk),
        network=network,
        is_test=test_code is not None,
        created_at=now,
    )
    verification.newest_call = call
    return call, code


def _place(call: Call, code: Secret, before: datetime | None) -> None:
    """Ask the provider for a call, write down what it said, and raise what the person must know."""
    if call.is_test:
        logger.warning("Test number used, no call placed.", extra=_context(call))
        _answered(call, Call.Status.SENT)
        return
    error: ProviderError | None = None
    try:
        receipt = get_backend(call.backend).place_call(
            CallRequest(call.phone.number, code, call.reference.hex, call.channel)
        )
    except ProviderError as raised:
        error = raised
    except Exception as bug:
        # Somebody's backend broke, nobody knows how far it got. Its message and the variables of
        # its frames may hold the code, so that the record has the type and the line alone.
        frame = traceback.extract_tb(bug.__traceback__)[-1]
        name, place = type(bug).__name__, f"{frame.filename}:{frame.lineno}"
        logger.error("A backend raised %s at %s.", name, place, extra=_context(call))  # noqa: TRY400
        error = UnknownOutcome(f"The backend raised {name}.")
    else:
        _answered(call, Call.Status.SENT, provider_id=receipt.provider_id)
        signals.call_placed.send_robust(Call, call=call)
    if error is not None:
        refusal = _failed(call, error, before)
        error = None  # it would be a local variable of the traceback, and refer to this frame
        if refusal is not None:
            raise refusal


def _failed(call: Call, error: ProviderError, before: datetime | None) -> FlashcallError | None:
    """Write down what a backend raised; return what the person must know of it."""
    refusal = _translate(error)
    _answered(
        call,
        Call.Status.UNKNOWN if error.may_have_been_placed else Call.Status.REJECTED,
        error_code=refusal.error_code if refusal else "",
        provider_code=error.code,
        provider_message=error.description,
    )
    _log(call, error)
    if error.may_have_been_placed:
        signals.call_placed.send_robust(Call, call=call)
        if refusal is not None:
            refusal.retry_after = limits.retry_after(call.phone, call.network, call.created_at)
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


def _answered(call: Call, status: Call.Status, **values: datetime) -> None:
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
    except DatabaseError:
        # The call is placed, and its row says that it may be: the person goes on.
        logger.exception("The answer of the provider was not stored.", extra=_context(call))


def _undo(call: Call, before: datetime | None) -> None:
    """Give a call that was certainly not placed back to its number and its verification."""
    verification = call.verification
    with transaction.atomic(using=_database()):
        row = Verification.objects.filter(pk=verification.pk)
        row.update(calls_left=F("calls_left") + 1)
        verification.calls_left += 1
        limits.give_back(call.phone, call.created_at, before)
        first = not verification.calls.exclude(pk=call.pk).exists()
        if first and row.filter(state=Verification.State.PENDING).update(
            state=Verification.State.FAILED
        ):
            verification.state = Verification.State.FAILED
            _erase_codes(verification)


def _evaluate(verification: Verification, code: str, ip: str | None) -> bool:
    """Compare a code for which an attempt is spent, and write down what follows."""
    call = Call.newest(verification.pk, placed=True)
    if call is None:  # every call was rejected: no code can be right
        return False
    fresh, phone = call.verification, call.verification.phone
    now = timezone.now()
    waits = phone.waits_until is not None and phone.waits_until > now
    if waits and fresh.attempts_left + 1 < fresh.max_attempts:
        # Raised out of the transaction: the attempt was not evaluated and is not spent. A
        # verification without a wrong code of its own goes on: strangers' guesses do not stop it.
        raise TooManyAttempts(retry_after=limits.retry_after(phone, visitors.network(ip), now))
    right = codes.matches(code, verification.pk, call.code_digest)
    Attempt.objects.create(verification=verification, right=right, ip=ip, created_at=now)
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
        _erase_codes(verification)
    return right


def _erase_codes(verification: Verification) -> None:
    Call.objects.filter(verification=verification.pk).update(code_digest="")


def _refusal(
    verification: Verification, network: str, *, on_form: bool = False
) -> FlashcallError:
    """Return why a verification can do no more, as its row says now."""
    verification.refresh_from_db(from_queryset=_with_phone())
    refusal: FlashcallError
    match verification.status:
        case Verification.State.VERIFIED | Verification.State.REDEEMED:
            refusal = AlreadyVerified()
        case Verification.State.CANCELLED:
            refusal = VerificationCancelled()
        case Verification.EXPIRED:
            _erase_codes(verification)
            refusal = VerificationExpired()
        case Verification.State.FAILED:
            refusal = TooManyAttempts(
                retry_after=limits.retry_after(verification.phone, network, timezone.now()),
                attempts_left=0,
            )
        case _:
            refusal = TooManyCalls(
                retry_after=limits.retry_after(verification.phone, network, timezone.now())
            )
    if on_form:
        refusal.field = None
    return refusal


def _belongs(verification: Verification, user: Person, session: str | None) -> bool:
    """Tell whether a visitor may go on with a verification."""
    if verification.user_id is not None:
        return user is not None and user.pk == verification.user_id
    if verification.session:
        return constant_time_compare(verification.session, session or "")
    return True


def _claim(token: str, purpose: str, user: Person, session: str | None) -> Verification:
    """Spend a token; of any number of simultaneous claims one succeeds."""
    verification = read_token(token, purpose=purpose, user=user, session=session)
    now = timezone.now()
    row = Verification.objects.filter(pk=verification.pk, state=Verification.State.VERIFIED)
    if not row.update(state=Verification.State.REDEEMED, redeemed_at=now):
        raise InvalidToken
    verification.state, verification.redeemed_at = Verification.State.REDEEMED, now
    return verification


def _refuse_taken(phone: Phone, account: AbstractBaseUser | None = None) -> None:
    """Raise `PhoneTaken` if another account holds the number, by our row or by the site's field."""
    if phone.owner_id is not None and (account is None or phone.owner_id != account.pk):
        raise PhoneTaken
    name = conf.USER_PHONE_FIELD
    # A field that is not unique may hold numbers that nobody verified: they take nothing.
    if name and get_user_model()._meta.get_field(name).unique:  # type: ignore[union-attr]
        others = get_user_model()._base_manager.filter(**{name: phone.number})
        if others.exclude(pk=account.pk if account else None).exists():
            raise PhoneTaken


def _fill(account: AbstractBaseUser, number: str) -> None:
    """Write a redeemed number into the site's own field of the account."""
    if name := conf.USER_PHONE_FIELD:
        setattr(account, name, number)
        account.save(update_fields=[name])


def _own(phone: Phone, account: AbstractBaseUser) -> None:
    """Make a number an account's, and free the account's former number."""
    Phone.objects.filter(owner=account).exclude(pk=phone.pk).update(owner=None)
    free = Phone.objects.filter(Q(owner=None) | Q(owner=account), pk=phone.pk)
    if not free.update(owner=account):
        raise PhoneTaken
    phone.owner = account


def _announce(phone: Phone, user: AbstractBaseUser | None, verification: Verification) -> None:
    transaction.on_commit(
        lambda: signals.phone_redeemed.send_robust(
            Phone, phone=phone, user=user, verification=verification
        ),
        using=_database(),
    )


_troubles: dict[tuple[object, ...], float] = {}
_troubles_lock = threading.Lock()


def _log(call: Call, error: ProviderError) -> None:
    """Log a call that did not go as it should: what the operator must mend at ERROR, once a while."""
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


def _context(call: Call) -> dict[str, str]:
    """What log records say of a call: enough to find its row, no number and no code."""
    return {
        "verification": str(call.verification_id),
        "call": call.reference.hex,
        "backend": call.backend,
        "phone": call.phone.masked,
    }
