"""The device. It stores a number and which verification is its newest, but no code.

django-otp's own `SideChannelDevice` stores the token itself, its `ThrottlingMixin` counts wrong
tokens, and its `CooldownMixin` counts calls. A verification does all three, with a digest in place
of the code, so this device has none of them: two throttles would contradict each other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections, models, transaction
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django_otp.models import Device, GenerateNotAllowed, VerifyNotAllowed

from ... import phones, services
from ...conf import FLASH_CALL, Purpose, conf
from ...exceptions import FlashcallError, InvalidPhone, ProviderUnavailable, VerificationNotFound
from ...insight.health import working_channel
from ...models import Phone, Verification
from ...prepared.keys import is_key_of

__all__ = ["CallDevice"]

logger = logging.getLogger("django_flashcall")

PURPOSE = "otp"
"""The purpose of its verifications, a key of ``PURPOSES``."""


def validate_phone(value: str) -> None:
    """Raise a ValidationError if a value is not a phone number."""
    try:
        phones.parse(value)
    except InvalidPhone as error:
        raise ValidationError(str(error), code=error.error_code) from None


class CallDevice(Device):
    """A device of django-otp that calls a number of its user.

    The code of the call is a verification's with the purpose ``otp``. Its limits and attempts
    apply, and no code is stored.
    """

    number = models.CharField(
        _("number"), max_length=32, validators=[validate_phone], help_text=_("The number to call.")
    )
    # Not a foreign key: old verifications are deleted, and the device stays.
    verification = models.UUIDField(null=True, editable=False)

    class Meta:
        verbose_name = _("call device")
        verbose_name_plural = _("call devices")

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        """The number with only its country code and last digits."""
        return phones.mask(self.number)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the device, with its number in E.164 format.

        Raises:
            InvalidPhone: it is not a number.
        """
        self.number = phones.parse(self.number)
        super().save(*args, **kwargs)

    def generate_is_allowed(self) -> tuple[bool, dict[str, Any] | None]:
        """Return whether the number can be called now, and if not, when: see `Device`."""
        phone = Phone.objects.filter(number=self.number).first()
        is_owner = phone is not None and is_key_of(self.user, phone.owner_id)
        free_at = phone.free_at(is_known=is_owner) if phone is not None else None
        if free_at is None or free_at <= timezone.now():
            return True, None
        reason = GenerateNotAllowed.COOLDOWN_DURATION_PENDING
        return False, {"reason": reason, "next_generation_at": free_at}

    def generate_challenge(self) -> str:
        """Call the number with a new code, and return what to tell the user.

        The forms of django-otp call this inside a transaction that they open themselves. The call
        is then placed when it ends, because a call must not wait inside one. If it fails, the end
        of the transaction raises a ValidationError, which these forms show.

        Raises:
            FlashcallError: there was no call; outside of transactions only.
        """
        message = self._announcement()
        match _open_transactions():
            case []:
                self._call()
            case [database]:
                transaction.on_commit(self._call_after_commit, using=database)
            case _:
                self._log_transaction("call")
                raise ProviderUnavailable
        return message

    def verify_is_allowed(self) -> tuple[bool, dict[str, Any] | None]:
        """Return whether a code can be checked now, and if not, why: see `Device`."""
        verification = self._newest()
        if verification is None:
            return True, None
        phone, now = verification.phone, timezone.now()
        status = verification.status
        if status == Verification.State.FAILED:
            return False, {
                "error_message": gettext("You have no attempts left. Request another call.")
            }
        if status == Verification.EXPIRED:
            message = gettext("The code has expired. Request another call.")
            return False, {"error_message": message}
        has_failed = verification.attempts_left < verification.max_attempts
        is_known = verification.is_known
        locked_until = phone.locked_until(is_known=is_known)
        if has_failed and locked_until is not None and locked_until > now:
            return False, {
                "reason": VerifyNotAllowed.N_FAILED_ATTEMPTS,
                "failure_count": phone.known_failures if is_known else phone.failures,
                "locked_until": locked_until,
            }
        return True, None

    def verify_token(self, token: str) -> bool:
        """Check a code and spend an attempt; True once, if it is that of the newest call.

        django-otp calls this in a transaction of its own, which it commits after a wrong token.
        Inside two nested ones, no code is right: a rollback, such as that of an error in Django
        REST framework with ``ATOMIC_REQUESTS``, would give the attempt back. Code that calls this
        directly must do so outside of transactions, or commit them.
        """
        verification = self._newest()
        if verification is None:
            return False
        if len(_open_transactions()) > 1:
            self._log_transaction("check a code")
            return False
        try:
            services.check(verification, str(token), durable=False)
        except FlashcallError:
            return False
        return True

    def _newest(self) -> Verification | None:
        """Return the verification of its newest call, if it was for this user and number."""
        if self.verification is None:
            return None
        try:
            found = services.find(self.verification, user=self.user)
        except VerificationNotFound:
            return None
        return found if found.phone.number == self.number else None

    def _log_transaction(self, what: str) -> None:
        logger.error(
            "%s cannot %s inside a transaction. If ATOMIC_REQUESTS is set, decorate the view with "
            "django_flashcall.decorators.non_atomic.",
            type(self).__name__,
            what,
        )

    def _call(self) -> None:
        verification = services.start(self.number, purpose=PURPOSE, user=self.user)
        self.verification = verification.pk
        type(self).objects.filter(pk=self.pk).update(verification=verification.pk)

    def _call_after_commit(self) -> None:
        try:
            self._call()
        except FlashcallError as error:
            raise ValidationError(str(error), code=error.error_code) from None

    def _announcement(self) -> str:
        purpose: Purpose = conf.PURPOSES[PURPOSE]
        channel = working_channel(purpose.code_length)
        if channel is None:
            raise ProviderUnavailable
        if channel != FLASH_CALL:
            text = gettext("We're calling %(number)s. Answer it and a voice reads you the code.")
            return text % {"number": self.masked}
        text = ngettext(
            "We're calling %(number)s. The code is the last %(length)d digit of the number "
            "that calls.",
            "We're calling %(number)s. The code is the last %(length)d digits of the number "
            "that calls.",
            purpose.code_length,
        )
        return text % {"number": self.masked, "length": purpose.code_length}


def _open_transactions() -> list[str]:
    """Return the databases of the open transactions, outermost first, except for Django's tests."""
    opened: Iterable[Any] = connections.all(initialized_only=True)
    return [
        connection.alias
        for connection in opened
        for block in connection.atomic_blocks
        if not block._from_testcase
    ]
