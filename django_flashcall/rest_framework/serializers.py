"""Serializers of the API. ``validate`` only reads; ``save`` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.contrib.auth import get_user_model, password_validation
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.fields import get_error_detail
from rest_framework.settings import api_settings

from .. import phones, services, sessions
from ..conf import conf
from ..exceptions import FlashcallError, VerificationNotFound
from ..models import Phone, Verification
from ..protection import visitors
from ..redaction import Secret
from ..sessions import visitor
from ..verification import codes
from ..verification.accounts import is_name_taken
from ..verification.tokens import CHANGE, LOGIN
from .exceptions import ServiceError

__all__ = [
    "CallSerializer",
    "CheckSerializer",
    "CodeField",
    "LoginSerializer",
    "PhoneChangeSerializer",
    "PhoneField",
    "PhoneSerializer",
    "PhoneTokenField",
    "ResendSerializer",
    "SignupSerializer",
    "StartSerializer",
    "StartedVerificationSerializer",
    "VerificationSerializer",
    "visitor",
]

Result = TypeVar("Result")


def run(service: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a service, and convert its errors to validation errors of the serializer."""
    try:
        return service(*args, **kwargs)
    except VerificationNotFound:  # deleted in the meantime
        raise
    except FlashcallError as error:
        refusal = ServiceError(error)
    raise refusal


class _TypedField(serializers.Field[Any, Any, Any, Any]):
    """A string. Numbers are accepted too, and empty strings are validated like others."""

    default_error_messages: ClassVar[Any] = {"invalid": _("Not a valid string.")}

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, bool) or not isinstance(data, (str, int)):
            self.fail("invalid")
        return self.parse(data if isinstance(data, str) else str(data))

    def parse(self, text: str) -> str:
        raise NotImplementedError

    def to_representation(self, value: Any) -> Any:
        return value


class PhoneField(_TypedField):
    """A phone number in any common format; the value is in E.164 format."""

    def parse(self, text: str) -> str:
        try:
            return phones.parse(text)
        except FlashcallError as error:
            raise serializers.ValidationError(str(error), code=error.error_code) from None


class CodeField(_TypedField):
    """A code as people type it; the value is normalised and hidden from tracebacks."""

    def parse(self, text: str) -> str:
        return codes.normalise(text)


class PhoneTokenField(_TypedField):
    """The token of a verified number, for your own serializers.

    The value is the token: pass it to `services.redeem` in ``save()``. The serializer needs
    ``context["request"]``.

    Args:
        purpose: the purpose that the number must be verified for.
    """

    def __init__(self, *, purpose: str = "signup", **kwargs: Any) -> None:
        self.purpose = purpose
        kwargs.setdefault("write_only", True)
        super().__init__(**kwargs)

    def parse(self, text: str) -> str:
        token = Secret(text)
        try:
            services.read_token(token, purpose=self.purpose, **visitor(self.context["request"]))
        except FlashcallError as error:
            raise serializers.ValidationError(str(error), code=error.error_code) from None
        return token


class _PasswordField(serializers.CharField):
    """A password, which is hidden from tracebacks."""

    def to_internal_value(self, data: Any) -> str:
        return Secret(super().to_internal_value(data))


class _Documented:
    """Base of the serializers whose components `openapi` names."""


class CallSerializer(_Documented, serializers.Serializer[Any]):
    """The latest call of a verification."""

    status = serializers.CharField()
    error_code = serializers.SerializerMethodField(help_text="Why the call was not delivered.")

    def get_error_code(self, call: Any) -> str | None:
        return call.error_code or None


class VerificationSerializer(_Documented, serializers.Serializer[Verification]):
    """A verification. The number is masked."""

    id = serializers.UUIDField()
    phone = serializers.CharField(source="phone.masked", help_text="Masked: `+7******4567`.")
    channel = serializers.CharField()
    channels = serializers.ListField(
        child=serializers.CharField(), help_text="Channels that a resend can use now."
    )
    purpose = serializers.CharField()
    status = serializers.CharField()
    code_length = serializers.IntegerField(help_text="Number of digits of the code.")
    attempts_left = serializers.IntegerField(help_text="Remaining attempts.")
    calls_left = serializers.IntegerField(help_text="Remaining calls.")
    expires_at = serializers.DateTimeField(help_text="A resend does not change it.")
    resend_at = serializers.DateTimeField(
        allow_null=True, help_text="Time of the next possible resend; null if no calls are left."
    )
    call = CallSerializer(source="newest_call")


class StartedVerificationSerializer(VerificationSerializer):
    """A new verification. Only this response contains the whole number, as it was understood."""

    phone = serializers.CharField(source="phone.number", help_text="In E.164 format.")


def show(verification: Verification) -> dict[str, Any]:
    """Return what `VerificationSerializer` shows of a verification."""
    return _SHOWN.to_representation(verification)


# A new serializer would copy its fields for each response; these have no state.
_SHOWN, _STARTED = VerificationSerializer(), StartedVerificationSerializer()


class StartSerializer(_Documented, serializers.Serializer[Verification]):
    """A request to start a verification."""

    phone = PhoneField(help_text="A phone number in any format.")
    channel = serializers.CharField(
        required=False,
        allow_null=True,
        help_text="`flash_call` or `voice_code`. Default: the first channel of the site.",
    )
    purpose = serializers.CharField(
        required=False, help_text="A purpose from the site's settings. Default: `signup`."
    )

    def create(self, validated_data: dict[str, Any]) -> Verification:
        request = self.context["request"]
        challenged = run(services.require_challenge, request, validated_data["phone"])
        return run(
            services.start,
            **validated_data,
            user=request.user,
            ip=visitors.client_ip(request),
            device=services.device_of(request),
            challenged=challenged,
        )

    def to_representation(self, instance: Verification) -> Any:
        return _STARTED.to_representation(instance)


class CheckSerializer(_Documented, serializers.Serializer[Any]):
    """A code to check."""

    code = CodeField(help_text="The code as typed; spaces and dashes are ignored.")

    # The instance is the id of a verification.
    def update(self, instance: UUID, validated_data: dict[str, Any]) -> Verification:
        request = self.context["request"]
        ip, code = visitors.client_ip(request), validated_data["code"]
        found, self.token = run(services.find_and_check, instance, code, ip=ip, **visitor(request))
        return found

    def to_representation(self, instance: Verification) -> Any:
        return {
            **show(instance),
            "token": str(self.token),
            "device": services.issue_device(instance.phone.number),
        }


class ResendSerializer(_Documented, serializers.Serializer[Verification]):
    """A request for another call."""

    channel = serializers.CharField(
        required=False,
        allow_null=True,
        help_text="`flash_call` or `voice_code`. Default: the channel of the last call.",
    )

    def update(self, instance: Verification, validated_data: dict[str, Any]) -> Verification:
        request = self.context["request"]
        challenged = run(services.require_challenge, request, instance.phone.number)
        ip = visitors.client_ip(request)
        return run(services.resend, instance, **validated_data, ip=ip, challenged=challenged)

    def to_representation(self, instance: Verification) -> Any:
        return show(instance)


class LoginSerializer(_Documented, serializers.Serializer[Any]):
    """A login with a verified number."""

    phone_token = PhoneTokenField(
        purpose=LOGIN, help_text="The token from the check of the code, of purpose `login`."
    )

    def create(self, validated_data: dict[str, Any]) -> Any:
        request, token = self.context["request"], validated_data["phone_token"]
        if answer := conf.LOGIN.answer:
            user, _phone = run(services.log_in, token, **visitor(request))
            self.answer = answer(request, user)
            return user
        user, phone = run(sessions.log_in, request._request, token)
        self.answer = {
            "id": user.pk,
            type(user).USERNAME_FIELD: user.get_username(),
            "phone": phone.masked,
        }
        return user

    def to_representation(self, instance: Any) -> Any:
        return self.answer


class PhoneSerializer(_Documented, serializers.Serializer[Phone]):
    """The number of a user. It is masked."""

    phone = serializers.CharField(source="masked", help_text="Masked: `+7******4567`.")
    verified_at = serializers.DateTimeField(
        allow_null=True, help_text="When the user last verified it."
    )


class PhoneChangeSerializer(_Documented, serializers.Serializer[Phone]):
    """A new number of a user."""

    phone_token = PhoneTokenField(
        purpose=CHANGE, help_text="The token from the check of the code, of purpose `change`."
    )

    def create(self, validated_data: dict[str, Any]) -> Phone:
        token = validated_data["phone_token"]
        return run(services.redeem, token, purpose=CHANGE, **visitor(self.context["request"]))

    def to_representation(self, instance: Phone) -> Any:
        return PhoneSerializer(instance).data


class SignupSerializer(_Documented, serializers.ModelSerializer[Any]):
    """A new account of the site's user model: its ``USERNAME_FIELD``, its ``REQUIRED_FIELDS`` and
    a password. The number comes only from the token.
    """

    phone_token = PhoneTokenField(help_text="The token from the check of the code.")
    password = _PasswordField(
        write_only=True, trim_whitespace=False, max_length=4096, style={"input_type": "password"}
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not in the class body, because tests may change the user model and the setting.
        model = get_user_model()
        names = [model.USERNAME_FIELD, *model.REQUIRED_FIELDS]
        given = [name for name in names if name != conf.USER_PHONE_FIELD]
        # The other fields are required unless the model allows them to be blank.
        required = {model.USERNAME_FIELD: {"required": True}}
        fields = ["phone_token", *given, "password"]
        self.Meta: Any = type(
            "Meta", (), {"model": model, "fields": fields, "extra_kwargs": required}
        )

    def to_internal_value(self, data: Any) -> Any:
        # The token first: without one, nobody learns which usernames are taken.
        field = self.fields.get("phone_token")
        if field is not None and isinstance(data, Mapping):
            try:
                field.run_validation(field.get_value(data))
            except serializers.SkipField:
                pass
            except serializers.ValidationError as error:
                raise serializers.ValidationError({"phone_token": error.detail}) from None
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        fields = {k: v for k, v in attrs.items() if k not in ("phone_token", "password")}
        model = get_user_model()
        user = model(**fields)
        try:
            user.clean()  # it normalises the username, as forms do
            others = {field.name for field in model._meta.fields} - set(fields)
            user.clean_fields(exclude=others)
            user.validate_unique(exclude=others)
        except DjangoValidationError as error:
            raise serializers.ValidationError(_details(error)) from None
        attrs |= {name: getattr(user, name) for name in fields}
        try:
            password_validation.validate_password(attrs["password"], user=user)
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}) from None
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Any:
        token = validated_data.pop("phone_token")
        request = self.context["request"]

        def create_user(number: str) -> AbstractBaseUser:
            # A manager's `create_user` may require fields that the model allows to be blank.
            model = get_user_model()
            blank = [name for name in self.Meta.fields if name in model.REQUIRED_FIELDS]
            empty = model()
            fields = {name: getattr(empty, name) for name in blank} | validated_data
            if name := conf.USER_PHONE_FIELD:
                fields[name] = number
            return services.create_user(**fields)

        try:
            user, phone = run(services.sign_up, token, create_user, **visitor(request))
        except IntegrityError:
            # Someone else took the username in the meantime: validate again.
            self.run_validation(self.initial_data)
            model = get_user_model()
            name = model.USERNAME_FIELD
            if not is_name_taken(validated_data.get(name)):
                raise
            taken = model().unique_error_message(model, (name,))
            raise serializers.ValidationError({name: taken.messages}, code="unique") from None
        self.phone: Phone = phone
        return user

    def to_representation(self, instance: Any) -> dict[str, Any]:
        name = type(instance).USERNAME_FIELD
        return {"id": instance.pk, name: instance.get_username(), "phone": self.phone.number}


def _details(error: DjangoValidationError) -> Any:
    """Return the errors of a model, as those of a serializer."""
    found: Any = get_error_detail(error)
    if not isinstance(found, dict):
        return found
    names = {NON_FIELD_ERRORS: api_settings.NON_FIELD_ERRORS_KEY}
    return {names.get(name, name): details for name, details in found.items()}
