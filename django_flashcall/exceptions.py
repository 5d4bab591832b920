"""The exceptions of the app, in two families that never mix.

`FlashcallError` is for visitors: the services raise it, and the pages and the API show it.
`ProviderError` is for backends: they raise it for one call, and only the services catch it.
"""

from __future__ import annotations

import math
from typing import ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .redaction import plain_text

__all__ = [
    "AlreadyVerified",
    "ChallengeRequired",
    "Cooldown",
    "DuplicateCall",
    "DuplicateRejected",
    "FlashcallError",
    "InvalidCode",
    "InvalidDestination",
    "InvalidPhone",
    "InvalidToken",
    "InvalidValue",
    "LimitReached",
    "MalformedReport",
    "Misconfigured",
    "NoAccount",
    "NumberRejected",
    "PhoneNotAllowed",
    "PhoneNotFound",
    "PhoneTaken",
    "ProviderError",
    "ProviderUnavailable",
    "ReauthenticationRequired",
    "TemporaryFailure",
    "TooManyAttempts",
    "TooManyCalls",
    "Unavailable",
    "UnknownOutcome",
    "VerificationCancelled",
    "VerificationExpired",
    "VerificationNotFound",
    "WrongCode",
]

MINUTE = 60
HOUR = 60 * MINUTE

RETRY_AFTER_UNKNOWN = 60
"""Seconds to wait that a visitor is told if the actual time is unknown."""

RETRY_AFTER_UNAVAILABLE = 5
"""Seconds to wait that a visitor is told with `Unavailable`."""


def waiting_time(seconds: int) -> str:
    """Return a waiting time in words, rounded up: ``43 seconds``, ``25 minutes``."""
    if seconds < 2 * MINUTE:
        return ngettext("%d second", "%d seconds", seconds) % seconds
    if seconds < 2 * HOUR:
        minutes = math.ceil(seconds / MINUTE)
        return ngettext("%d minute", "%d minutes", minutes) % minutes
    hours = math.ceil(seconds / HOUR)
    return ngettext("%d hour", "%d hours", hours) % hours


class FlashcallError(Exception):
    """An error to show to the visitor.

    Attributes:
        error_code: a stable code for programs; never translated.
        status_code: the HTTP status of the API response.
        field: the form field that the message belongs to; None for the whole form.
        message: the translated message for people.
        retry_after: seconds until the next permitted request; None if waiting does not help.
        attempts_left: remaining attempts; None if it does not apply.
        scope: what refused the request, a `Refusal.Scope`; empty if nothing is counted. For the
            admin, signals and metrics: visitors never see it.
    """

    scope: str = ""
    error_code: ClassVar[str]
    status_code: ClassVar[int] = 400
    field: str | None = None
    message: str | Promise = ""

    def __init__(
        self,
        message: str | Promise | None = None,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        attempts_left: int | None = None,
        scope: str = "",
    ) -> None:
        self.scope = scope
        if message is not None:
            self.message = message
        if field is not None:
            self.field = field
        if retry_after is None and self.status_code in (429, 503):
            retry_after = RETRY_AFTER_UNKNOWN
        self.retry_after = None if retry_after is None else max(1, retry_after)
        self.attempts_left = attempts_left
        super().__init__(self.error_code)

    def __str__(self) -> str:
        return str(self.message)


class InvalidValue(FlashcallError):
    """A field is malformed, or the channel or purpose is unknown."""

    error_code = "invalid"
    message = _("This value is not valid.")


class InvalidPhone(FlashcallError):
    """The input is not a phone number, or it has an extension."""

    error_code = "invalid_phone"
    field = "phone"
    message = _("Enter a phone number, for example +7 916 123-45-67.")


class PhoneNotAllowed(FlashcallError):
    """The number is unassigned, or its country, its type or a rule does not allow calls."""

    error_code = "phone_not_allowed"
    field = "phone"
    message = _("We can't call this number. Try another mobile number.")


class InvalidDestination(FlashcallError):
    """The provider does not know the number (its error 8)."""

    error_code = "invalid_destination"
    field = "phone"
    message = _("We couldn't call this number. Check it and try again.")


class LimitReached(FlashcallError):
    """A limit is reached. The message says how long to wait."""

    status_code = 429
    message_with_wait: ClassVar[str | Promise]
    """The message, with ``%(wait)s`` for a time such as "25 minutes"."""

    def __str__(self) -> str:
        if self.retry_after is None or "message" in vars(self):  # a custom message
            return super().__str__()
        return str(self.message_with_wait) % {"wait": waiting_time(self.retry_after)}


class Cooldown(LimitReached):
    """The number was just called. `retry_after` says when the next call is possible."""

    error_code = "cooldown"
    message = _("We've just called this number. Wait a minute, then request another call.")
    message_with_wait = _(
        "We've just called this number. You can request another call in %(wait)s."
    )


class TooManyCalls(LimitReached):
    """A limit on calls is reached, or the number is locked after too many wrong codes."""

    error_code = "too_many_calls"
    message = _("Too many calls. Try again later.")
    # The same words for every limit, so that they do not tell attackers what they tripped.
    message_with_wait = _(
        "Too many calls. Try again in %(wait)s. If you have verified this number before, use the "
        "device that you verified it on."
    )


class ChallengeRequired(FlashcallError):
    """The visitor must pass the site's ``CHALLENGE`` before a call is placed."""

    error_code = "challenge_required"
    status_code = 403
    message = _("Confirm that you're not a robot, then try again.")


class ReauthenticationRequired(FlashcallError):
    """The user must pass the site's ``REAUTHENTICATE`` before their number changes."""

    error_code = "reauthentication_required"
    status_code = 403
    message = _("Enter your password again, then try again.")


class DuplicateCall(FlashcallError):
    """The provider rejected the call as a duplicate of a recent one (its error 10)."""

    error_code = "duplicate_call"
    status_code = 429
    message = _("We've already placed this call. Wait a minute, then request another one.")


class ProviderUnavailable(FlashcallError):
    """No call can be placed now. Only the admin and the log show the reason."""

    error_code = "provider_unavailable"
    status_code = 503
    message = _("We can't call you right now. Please try again in a few minutes.")


class Unavailable(FlashcallError):
    """The database is locked, full or gone, or a page asks to wait for another request.

    The API and the pages show it; services do not raise it, but let the errors of `django.db`
    through.
    """

    error_code = "unavailable"
    status_code = 503
    field = "detail"
    message = _("Something went wrong on our side. Please try again in a few seconds.")

    def __init__(self) -> None:
        super().__init__(retry_after=RETRY_AFTER_UNAVAILABLE)


class InvalidCode(FlashcallError):
    """The input cannot be a code. No attempt is spent."""

    error_code = "invalid"
    field = "code"

    def __init__(self, length: int) -> None:
        message = ngettext(
            "Enter the %(length)d-digit code.", "Enter the %(length)d-digit code.", length
        )
        super().__init__(message % {"length": length})


class WrongCode(FlashcallError):
    """The code is wrong. An attempt is spent."""

    error_code = "wrong_code"
    field = "code"

    def __init__(self, attempts_left: int) -> None:
        message: str | Promise
        if attempts_left:
            message = ngettext(
                "Wrong code. %(attempts)d attempt left.",
                "Wrong code. %(attempts)d attempts left.",
                attempts_left,
            ) % {"attempts": attempts_left}
        else:
            message = _("Wrong code. You have no attempts left. Start again.")
        super().__init__(message, attempts_left=attempts_left)


class TooManyAttempts(LimitReached):
    """No attempts are left, or the number or address is locked after too many wrong codes."""

    error_code = "too_many_attempts"
    field = "code"
    message = _("Too many wrong codes. Try again later.")
    message_with_wait = _("Too many wrong codes. Try again in %(wait)s.")


class VerificationExpired(FlashcallError):
    """The verification is older than ``CODE_TTL``."""

    error_code = "expired"
    field = "code"
    message = _("The code has expired. Start again.")


class VerificationCancelled(FlashcallError):
    """The verification was cancelled."""

    error_code = "cancelled"
    field = "code"
    message = _("You cancelled this verification. Start again.")


class AlreadyVerified(FlashcallError):
    """The verification has already succeeded. It can succeed only once."""

    error_code = "already_verified"
    field = "code"
    message = _("This number is already verified.")


class InvalidToken(FlashcallError):
    """The token is forged, expired, used, or for another purpose or visitor."""

    error_code = "invalid_token"
    field = "phone_token"
    message = _("Your phone number needs to be verified.")


class PhoneTaken(FlashcallError):
    """The number belongs to another account."""

    error_code = "phone_taken"
    field = "phone_token"
    message = _("An account with this phone number already exists.")


class NoAccount(FlashcallError):
    """Login with a number that has no account, or with one that is not allowed to log in."""

    error_code = "no_account"
    field = "phone_token"
    message = _("There's no account with this phone number.")


class VerificationNotFound(FlashcallError):
    """The verification does not exist or belongs to someone else; the response is the same."""

    error_code = "not_found"
    status_code = 404
    field = "detail"
    message = _("Verification not found.")


class PhoneNotFound(FlashcallError):
    """The user has no verified number."""

    error_code = "not_found"
    status_code = 404
    field = "detail"
    message = _("You have no verified phone number.")


class ProviderError(Exception):
    """A backend could not place a call, or does not know whether it did.

    Raise a subclass, outside of any ``except`` block: the exceptions of HTTP libraries contain the
    request, and with it the password and the code.

    Attributes:
        may_have_been_placed: True if the phone may be ringing. The call then counts towards the
            limits, its code can verify, and *a retry may ring the phone twice*. False if the call
            was certainly not placed; a retry is then safe.
        code: the provider's error number, if any.
        description: the provider's error text as one short line, for the admin and the log only.
        http_status: the HTTP status of the provider's response, if any.
    """

    may_have_been_placed: bool = False

    def __init__(
        self,
        description: str = "",
        *,
        code: int | None = None,
        http_status: int | None = None,
        may_have_been_placed: bool | None = None,
    ) -> None:
        self.description = plain_text(description)
        self.code = code
        self.http_status = http_status
        if may_have_been_placed is not None:
            self.may_have_been_placed = may_have_been_placed
        super().__init__(self.description)


class NumberRejected(ProviderError):
    """The provider cannot call this number. The visitor has to correct it."""


class DuplicateRejected(ProviderError):
    """The provider rejected the call as a duplicate. Do not retry: the next call has a new code."""


class TemporaryFailure(ProviderError):
    """The provider cannot place calls now. A later call may succeed without any change."""


class Misconfigured(ProviderError):
    """Credentials, IP address, account or request are wrong. An administrator has to fix them."""


class UnknownOutcome(ProviderError):
    """The request was sent, but no valid response came back: the phone may be ringing.

    The visitor sees no error. Do not retry unless the provider drops duplicates.
    """

    may_have_been_placed = True


class MalformedReport(Exception):
    """A request to the webhook is not a delivery report of the provider."""
