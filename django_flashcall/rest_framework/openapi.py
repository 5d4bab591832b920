"""The OpenAPI schema for drf-spectacular; imported only if that is an installed app.

The extensions register themselves and do not change the views.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
    OpenApiViewExtension,
)
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import serializers as drf
from rest_framework.settings import api_settings

from ..conf import CHANNELS, conf
from ..models import Call, Verification
from . import serializers

TAGS = ["phone verification"]

ALWAYS: Mapping[int, tuple[str, str]] = {
    401: ("The site's own authentication failed.", "authentication_failed not_authenticated"),
    403: ("The site forbids it.", "permission_denied"),
    406: ("The site has no renderer for the header `Accept`.", "not_acceptable"),
    413: ("The body is too large.", "too_large"),
    415: ("The content type is not JSON.", "unsupported_media_type"),
    429: ("The site's own throttles were exceeded.", "throttled"),
    503: ("The database is not available.", "unavailable"),
}
"""Errors of every request: status → description and values of ``error_code``."""

CALLING = {
    403: ("The site's challenge must be solved first.", "challenge_required"),
    429: ("A limit on calls is reached.", "cooldown too_many_calls duplicate_call"),
    503: ("No call can be placed right now.", "provider_unavailable"),
}

ANY: Mapping[str, Any] = {"type": "object", "additionalProperties": {}}
"""Schema of a response that the site chooses."""

INVALID = "invalid parse_error"

ENDED = "expired cancelled already_verified"

NO_PHONE = {404: ("The user has no verified number.", "not_found")}

NOT_FOUND = {404: ("It does not exist or belongs to somebody else.", "not_found")}


class TypedFieldExtension(OpenApiSerializerFieldExtension):
    """A string; numbers are accepted but not recommended."""

    target_class = serializers._TypedField
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string"}


class ErrorSerializer(serializers._Documented, drf.Serializer[Any]):
    """An error that does not belong to a field."""

    error_code = drf.CharField(help_text="For programs. Never translated.")
    detail = drf.CharField(help_text="For people.")


class CheckedVerificationSerializer(serializers.VerificationSerializer):
    """A verification whose code was right."""

    token = drf.CharField(help_text="Proof that the number is verified. It can be redeemed once.")
    device = drf.CharField(
        allow_null=True,
        help_text="Keep it in the app, and send it in the header `Flashcall-Device` when you start "
        "another verification: then strangers cannot use up the calls of this number.",
    )


class ChallengeSerializer(serializers._Documented, drf.Serializer[Any]):
    """A challenge of Altcha, version 1: find the number with this SHA-256 after the salt."""

    algorithm = drf.CharField(help_text="`SHA-256`.")
    challenge = drf.CharField(help_text="The digest, in hexadecimal digits.")
    maxnumber = drf.IntegerField(help_text="The number is from 0 to this.")
    salt = drf.CharField(help_text="Comes before the number.")
    signature = drf.CharField(help_text="Send it back with the number.")


class SerializerExtension(OpenApiSerializerExtension):
    """Add the app's name to the components, so that they do not clash with those of the site."""

    target_class = serializers._Documented
    match_subclasses = True

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        serializer = self.target if isinstance(self.target, type) else type(self.target)
        return f"Flashcall{serializer.__name__.removesuffix('Serializer')}"

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        fields = schema["properties"]
        if isinstance(self.target, serializers.CallSerializer):
            fields["status"] = _enum(Call.Status.values)
        if isinstance(self.target, serializers.VerificationSerializer):
            fields["status"] = _enum([*Verification.State.values, Verification.EXPIRED])
            fields["channel"] = _enum(CHANNELS)
            fields["channels"] |= {"items": _enum(CHANNELS)}
        return schema


class StartViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.StartView"

    def view_replacement(self) -> Any:
        post = _operation(
            "verification_start",
            "Start a verification and place a call.",
            request=serializers.StartSerializer,
            answers={201: serializers.StartedVerificationSerializer},
            fields=("phone", "channel", "purpose"),
            errors={
                400: (
                    "The number cannot be called, or a value is not valid.",
                    f"{INVALID} invalid_phone phone_not_allowed invalid_destination",
                ),
                **CALLING,
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class ChallengeViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.ChallengeView"

    def view_replacement(self) -> Any:
        get = _operation(
            "challenge_retrieve",
            "Get a challenge to solve after `challenge_required`. Send the solution, in the header "
            "`Flashcall-Challenge`, with the same request again. It can be used once.",
            answers={200: ChallengeSerializer},
            errors={404: ("The site has another kind of challenge, or none.", "not_found")},
        )
        return extend_schema_view(get=get)(_copy(self.target_class))


class VerificationViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.VerificationView"

    def view_replacement(self) -> Any:
        get = _operation(
            "verification_retrieve",
            "Show a verification.",
            answers={200: serializers.VerificationSerializer},
            errors=NOT_FOUND,
            asked_again=(200,),
        )
        delete = _operation(
            "verification_cancel",
            "Cancel a pending verification. A finished one does not change.",
            answers={204: OpenApiResponse(description="The verification is finished.")},
            errors=NOT_FOUND,
        )
        return extend_schema_view(get=get, delete=delete)(_copy(self.target_class))


class CheckViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.CheckView"

    def view_replacement(self) -> Any:
        post = _operation(
            "verification_check",
            "Check a code. The right code returns the token.",
            request=serializers.CheckSerializer,
            answers={200: CheckedVerificationSerializer},
            fields=("code", "phone"),
            errors={
                400: (
                    "The code is wrong or malformed, or the verification is finished.",
                    f"{INVALID} wrong_code {ENDED} invalid_destination",
                ),
                **NOT_FOUND,
                429: (
                    "Too many wrong codes, or the call was rejected.",
                    "too_many_attempts duplicate_call",
                ),
                503: ("The call was rejected: start again.", "provider_unavailable"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class ResendViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.ResendView"

    def view_replacement(self) -> Any:
        status, words = CALLING[429]
        post = _operation(
            "verification_resend",
            "Request another call for the same verification.",
            request=serializers.ResendSerializer,
            answers={200: serializers.VerificationSerializer},
            fields=("channel", "phone"),
            errors={
                400: (
                    "The number cannot be called, or the verification is finished.",
                    f"{INVALID} {ENDED} phone_not_allowed invalid_destination",
                ),
                **NOT_FOUND,
                **CALLING,
                429: (status, f"{words} too_many_attempts"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class SignupViewExtension(OpenApiViewExtension):
    """Take the fields from the site's user model."""

    target_class = "django_flashcall.rest_framework.views.SignupView"

    def view_replacement(self) -> Any:
        request = serializers.SignupSerializer
        names = request().get_fields()
        post = _operation(
            "signup",
            "Create an account with a verified number.",
            request=request,
            answers={201: _account_answer("The verified number.")},
            fields=names,
            errors={
                400: ("A value is not valid.", f"{INVALID} invalid_token phone_taken"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class LoginViewExtension(OpenApiViewExtension):
    """Describe the response that the setting ``LOGIN`` chooses."""

    target_class = "django_flashcall.rest_framework.views.LoginView"

    def view_replacement(self) -> Any:
        post = _operation(
            "login",
            "Log in with a verified number.",
            request=serializers.LoginSerializer,
            answers={
                200: _account_answer("The number, masked.") if conf.LOGIN.answer is None else ANY
            },
            fields=("phone_token",),
            errors={
                400: (
                    "The number cannot log in.",
                    f"{INVALID} invalid_token no_account phone_taken",
                ),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class PhoneViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.PhoneView"

    def view_replacement(self) -> Any:
        forbidden = {
            403: (
                "Nobody is logged in, or the user must enter the password again.",
                "not_authenticated reauthentication_required",
            )
        }
        get = _operation(
            "phone_retrieve",
            "Show the number of the logged-in user.",
            answers={200: serializers.PhoneSerializer},
            errors=NO_PHONE,
        )
        post = _operation(
            "phone_change",
            "Set or change the number of the logged-in user.",
            request=serializers.PhoneChangeSerializer,
            answers={200: serializers.PhoneSerializer},
            fields=("phone_token",),
            errors={
                400: ("The number cannot be used.", f"{INVALID} invalid_token phone_taken"),
                **forbidden,
            },
        )
        delete = _operation(
            "phone_remove",
            "Remove the number of the logged-in user.",
            answers={204: OpenApiResponse(description="The user has no number any more.")},
            errors={
                400: ("The account needs a number.", "invalid"),
                **forbidden,
                **NO_PHONE,
            },
            fields=(api_settings.NON_FIELD_ERRORS_KEY,),
        )
        return extend_schema_view(get=get, post=post, delete=delete)(_copy(self.target_class))


def _account_answer(phone: str) -> dict[str, Any]:
    """Return the schema of an account and its number."""
    model = get_user_model()
    return {
        "type": "object",
        "properties": {
            "id": _primary_key(model._meta.pk),
            model.USERNAME_FIELD: {"type": "string"},
            "phone": {"type": "string", "description": phone},
        },
        "required": ["id", model.USERNAME_FIELD, "phone"],
    }


def _copy(view: Any) -> Any:
    """Return a subclass to annotate, so that the view itself does not change."""
    return type(view.__name__, (view,), {"__doc__": view.__doc__})


def _operation(
    name: str,
    summary: str,
    *,
    answers: Mapping[int, Any],
    errors: Mapping[int, tuple[str, str]],
    request: Any = None,
    fields: Collection[str] = (),
    asked_again: Collection[int] = (),
) -> Any:
    """Return a decorator that documents a method of a view.

    Args:
        name: the operation id, for generated clients.
        summary: what the operation does.
        answers: the successful responses, by status.
        errors: description and ``error_code`` values by status; added to `ALWAYS`.
        request: the serializer of the body, if any.
        fields: the fields of the body that can have errors.
        asked_again: successful statuses that say when to ask again.
    """
    described: dict[int, Any] = dict(answers)
    bodiless = () if request else (413, 415)
    for status in sorted({*ALWAYS, *errors} - {*bodiless}):
        said = [found[status] for found in (errors, ALWAYS) if status in found]
        words = [word for _, words in said for word in words.split()]
        described[status] = OpenApiResponse(
            _error(words, fields, status)
            if fields and status in errors and status != 404
            else ErrorSerializer,
            description=" ".join(
                f"{description} ({', '.join(f'`{word}`' for word in words.split())})"
                for description, words in said
            ),
        )
    return extend_schema(
        operation_id=name,
        summary=summary,
        tags=TAGS,
        request=request,
        responses=described,
        parameters=[*_headers(described, asked_again)],
    )


def _headers(
    described: Mapping[int, Any], asked_again: Collection[int]
) -> Iterable[OpenApiParameter]:
    def header(name: str, kind: Any, words: str, statuses: Any) -> OpenApiParameter:
        return OpenApiParameter(
            name, kind, OpenApiParameter.HEADER, description=words, response=statuses
        )

    yield header("Cache-Control", str, "Always `no-store`.", True)
    waiting = [status for status in (*asked_again, 429, 503) if status in described]
    yield header("Retry-After", int, "Seconds until the next possible request.", waiting)
    yield header("WWW-Authenticate", str, "The site's authentication scheme.", [401])


def _error(words: Collection[str], fields: Collection[str], status: int) -> dict[str, Any]:
    """Return the schema of an error: messages by field or ``detail``, and values for programs."""
    names = (*fields, api_settings.NON_FIELD_ERRORS_KEY)
    properties: dict[str, Any] = {
        "error_code": {"type": "string", "enum": list(words)},
        "detail": {"type": "string", "description": "Set if the error does not belong to a field."},
        **{name: {"type": "array", "items": {"type": "string"}} for name in names if name},
    }
    if {"wrong_code", "too_many_attempts"}.intersection(words):
        properties["attempts_left"] = {"type": "integer"}
    if status in (429, 503):
        properties["retry_after"] = {"type": "integer", "minimum": 1, "description": "Seconds."}
    return {
        "type": "object",
        "properties": properties,
        "required": ["error_code"],
        "additionalProperties": False,
    }


def _enum(words: Iterable[str]) -> dict[str, Any]:
    # With `allOf`, drf-spectacular does not create a component, whose name could clash with an
    # enumeration of the site.
    return {"allOf": [{"type": "string", "enum": list(words)}]}


def _primary_key(field: Any) -> dict[str, Any]:
    match field:
        case models.UUIDField():
            return {"type": "string", "format": "uuid"}
        case models.IntegerField():
            return {"type": "integer"}
        case _:
            return {"type": "string"}
