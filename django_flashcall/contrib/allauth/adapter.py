"""The adapter: what allauth asks a site to do with phone numbers, done with calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context, ratelimit
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext

from ... import phones, services
from ...conf import VOICE_CODE, conf
from ...exceptions import FlashcallError, InvalidPhone, VerificationExpired, VerificationNotFound
from ...models import Phone, Verification
from ...redaction import Secret
from ...verification.accounts import Account
from ...verification.codes import generate
from . import attempts
from .codes import code_length
from .models import UnverifiedPhone
from .refusals import CallRefused

__all__ = ["FlashcallAdapterMixin"]

PURPOSE = "allauth"
"""The purpose of allauth's calls, in the admin and the statistics."""

PURPOSE_WITHOUT_ACCOUNT = "allauth-no-account"
"""The purpose of calls that are not placed, because the number belongs to no account."""

SENT = {
    "account/messages/login_code_sent.txt",
    "account/messages/phone_verification_sent.txt",
}
"""The messages that allauth adds after each code, whether or not there is an account."""

LOGIN_PAGES = {"account_login", "login"}
"""Names of URLs where a number logs in, mostly with a password, so that it is not to be called."""

CODE_REQUESTS = {"account_request_login_code", "request_login_code"}
"""Names of URLs that do not count towards allauth's own limit ``verify_phone``."""

STAGES = {
    "allauth.account.stages.LoginByCodeStage",
    "allauth.account.stages.PhoneVerificationStage",
}


class FlashcallAdapterMixin(DefaultAccountAdapter):
    """Verify numbers and log in by code with calls. List it before ``DefaultAccountAdapter``.

    The number of an account is its `django_flashcall.models.Phone`, so the user model needs no
    field. Only a verified number identifies an account. Errors of the services become errors of
    allauth's forms, messages on its pages, or errors of its API.
    """

    def phone_form_field(self, **kwargs: Any) -> Any:
        """Return a field that takes a number in any common format."""
        kwargs.setdefault("validators", [])  # allauth's validator takes E.164 only
        return super().phone_form_field(**kwargs)

    def clean_phone(self, phone: str) -> str:
        """Return the number in E.164; refuse it if it cannot be called, before anything is saved.

        Where a number logs in with a password, nobody is called, so any number is accepted.
        """
        phone = super().clean_phone(phone)
        page = _url_name()
        try:
            number = phones.parse(phone)
            if page not in LOGIN_PAGES:
                challenged = services.require_challenge(context.request, number)
                context.request._flashcall_challenged = challenged
                ip = services.client_ip(context.request)
                services.check_limits(number, code_length=code_length(), ip=ip)
        except FlashcallError as error:
            raise ValidationError(str(error), code=error.error_code) from None
        counts = page not in LOGIN_PAGES | CODE_REQUESTS
        if counts and not ratelimit.consume(
            context.request, action="verify_phone", key=number, dry_run=True
        ):
            raise self.validation_error("rate_limited")  # allauth would answer 500
        return number

    def generate_phone_verification_code(self, *, user: Account, phone: str) -> str:
        """Return a code with as many digits as a call has; of test numbers, their fixed code."""
        test_code = conf.TEST_NUMBERS.get(phones.parse(phone))
        return Secret(test_code) if test_code else generate(code_length())

    def send_verification_code_sms(
        self, user: Account, phone: str, code: str, **kwargs: Any
    ) -> None:
        """Call the number with the code.

        Raises:
            CallRefused: the call was not placed; allauth answers with the error.
        """

        def place(**given: Any) -> Verification:
            return services.place_call(phone, code, purpose=PURPOSE, **given).verification

        attempts.remember(context.request, _answer(place), code)

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        """Say what kind of call brings the code, where allauth says that it was sent.

        allauth says so for numbers without an account too, and calls nobody. Their limits are used
        here like those of others. Otherwise the next response would tell who has an account.
        """
        details = message_context or {}
        if message_template in SENT and "phone" in details:
            verification = getattr(request, "_flashcall_verification", None)
            if verification is None:
                verification = _pretend(details["phone"])
            message = _describe(verification, message_template, details, request)
        super().add_message(request, level, message_template, message_context, extra_tags, message)

    def get_login_stages(self) -> list[str]:
        """Return allauth's stages, with ours for those that call."""
        return [
            f"{__package__}.stages.{path.rpartition('.')[2]}" if path in STAGES else path
            for path in super().get_login_stages()
        ]

    def set_phone(self, user: Account, phone: str, verified: bool) -> None:
        """Store the number of an account until a call verifies it.

        Args:
            user: the saved account.
            phone: the number, in any common format.
            verified: ignored. A number that an identity provider calls verified is called too.
        """
        try:
            number = phones.parse(phone)
        except InvalidPhone:  # of an identity provider; allauth checks what people type
            return
        UnverifiedPhone.objects.update_or_create(user=user, defaults={"number": number})

    def get_phone(self, user: Account) -> tuple[str, bool] | None:
        """Return the number of an account and True if it is verified, or None."""
        verified = services.phone_of(user)
        if verified is not None:
            return verified.number, True
        claimed = UnverifiedPhone.objects.filter(user=user).first()
        return None if claimed is None else (claimed.number, False)

    def set_phone_verified(self, user: Account, phone: str) -> None:
        """Make the number that of the account: the visitor entered the code of its call.

        Raises:
            CallRefused: there was no such call, or another account verified the number first.
        """
        try:
            services.confirm_call(phone, purpose=PURPOSE, user=user)
        except VerificationNotFound:
            if not _is_confirmed(phone, user):
                raise _not_accepted(VerificationExpired()) from None
        except FlashcallError as error:
            raise _not_accepted(error) from None
        UnverifiedPhone.objects.filter(user=user).delete()

    def get_user_by_phone(self, phone: str) -> Account | None:
        """Return the account that has verified the number, or None."""
        try:
            number = phones.parse(phone)
        except InvalidPhone:
            return None
        row = Phone.objects.filter(number=number).select_related("owner").first()
        return None if row is None else row.owner


# Helpers, in the order of use.


def _url_name() -> str:
    match = context.request.resolver_match
    return (match.url_name or "") if match else ""


def _answer(place: Callable[..., Verification]) -> Verification:
    """Place a call or pretend to, and note it for the message; turn an error into a response."""
    request = context.request
    user = request.user if request.user.is_authenticated else None
    try:
        challenged = getattr(request, "_flashcall_challenged", False)
        verification = place(user=user, ip=services.client_ip(request), challenged=challenged)
    except FlashcallError as error:
        raise CallRefused(request, error) from None
    request._flashcall_verification = verification
    return verification


def _pretend(phone: str) -> Verification:
    def pretend(**given: Any) -> Verification:
        return services.pretend_call(
            phone, purpose=PURPOSE_WITHOUT_ACCOUNT, code_length=code_length(), **given
        )

    return _answer(pretend)


def _describe(
    verification: Verification, template: str, details: dict[str, Any], request: HttpRequest
) -> str:
    """Return the message after a call. It is the same whether or not there is an account."""
    digits = verification.code_length
    if verification.channel == VOICE_CODE:
        text = gettext("We're calling %(phone)s. Answer the call, and a voice reads you the code.")
    else:
        text = ngettext(
            "We're calling %(phone)s. The code is the last digit of the number that calls.",
            "We're calling %(phone)s. The code is the last %(digits)d digits of the number that "
            "calls.",
            digits,
        )
    text %= {"phone": details["phone"], "digits": digits}
    if request.user.is_authenticated:
        return text
    if "login" in template:
        hint = gettext("No call? Check the number. If you don't have an account yet, sign up.")
    else:
        hint = gettext("No call? Check the number. If you already have an account, log in.")
    return f"{text} {hint}"


def _is_confirmed(phone: str, user: Account) -> bool:
    """Return True if the newest call was confirmed for this account: a form was sent twice."""
    calls = Verification.objects.filter(phone__number=phones.parse(phone), purpose=PURPOSE)
    newest = calls.order_by("-created_at").first()
    return newest is not None and newest.redeemed_by_id == user.pk


def _not_accepted(error: FlashcallError) -> CallRefused:
    request = context.request
    if request.user.is_authenticated:
        return CallRefused(request, error, "account_change_phone")
    request.session.flush()  # it says that this account has entered a right code
    return CallRefused(request, error, "account_login")
