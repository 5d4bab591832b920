"""What the API reads and answers, for drf-spectacular; imported where that is an installed app.

The extensions register themselves. Nothing here changes a view: only what is said of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

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

from ..conf import CHANNELS
from ..models import Call, Verification
from . import serializers

TAGS = ["phone verification"]

ALWAYS: Mapping[int, tuple[str, str]] = {
    401: ("The site's own authentication failed.", "authentication_failed not_authenticated"),
    403: ("The site forbids it.", "permission_denied"),
    406: ("JSON is all there is.", "not_acceptable"),
    413: ("The body is too large.", "too_large"),
    415: ("The body is not said to be JSON.", "unsupported_media_type"),
    429: ("Too many requests by the site's own throttles.", "throttled"),
}
"""What any request may be answered: the status, what happened, and words of ``error_code``."""

CALLING = {
    403: ("The site's challenge must be passed first.", "challenge_required"),
    429: ("A limit of calls is used up.", "cooldown too_many_calls duplicate_call"),
    503: ("No call can be placed at the moment.", "provider_unavailable"),
}

INVALID = "invalid parse_error"

ENDED = "expired cancelled already_verified"

NOT_FOUND = {404: ("There is none, or it is somebody else's.", "not_found")}


class TypedFieldExtension(OpenApiSerializerFieldExtension):
    """What people type is a string; numbers are tolerated and not recommended."""

    target_class = serializers._TypedField
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string"}


class ErrorSerializer(drf.Serializer[Any]):
    """An error that no field is at fault for."""

    error_code = drf.CharField(help_text="For programs; never translated.")
    detail = drf.CharField(help_text="For people.")


class CheckedVerificationSerializer(serializers.VerificationSerializer):
    """A verification that has just succeeded."""

    token = drf.CharField(help_text="Proof of the number, redeemed once.")


class Described:
    """A component under a name that no serializer of the site has, with words on its fields."""

    target: Any
    match_subclasses = True
    descriptions: ClassVar[Mapping[str, str]] = {}

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        serializer = self.target if isinstance(self.target, type) else type(self.target)
        return f"Flashcall{serializer.__name__.removesuffix('Serializer')}"

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        fields = schema["properties"]
        self.alter(fields)
        for name, words in self.descriptions.items():
            fields[name] = {**fields[name], "description": words}
        return schema

    def alter(self, fields: dict[str, Any]) -> None:
        """Change the schemas of fields."""


class StartExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.StartSerializer
    descriptions: ClassVar = {
        "phone": "In any way people write it.",
        "channel": "`flash_call` or `voice_code`; the site's first if omitted.",
        "purpose": "What the token will be for, as the site's settings name it; else `signup`.",
    }


class CheckExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.CheckSerializer
    descriptions: ClassVar = {"code": "As it was typed; blanks and dashes do no harm."}


class ResendExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.ResendSerializer
    descriptions: ClassVar = {"channel": "`flash_call` or `voice_code`; as before if omitted."}


class SignupExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.SignupSerializer
    descriptions: ClassVar = {"phone_token": "The answer to the right code."}


class ErrorExtension(Described, OpenApiSerializerExtension):
    target_class = ErrorSerializer


class CallExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.CallSerializer
    descriptions: ClassVar = {"error_code": "Why it did not arrive, as a word."}

    def alter(self, fields: dict[str, Any]) -> None:
        fields["status"] = _word(Call.Status.values)


class VerificationExtension(Described, OpenApiSerializerExtension):
    target_class = serializers.VerificationSerializer
    descriptions: ClassVar = {
        "phone": "Whole in the answer to a start, else masked: `+7******4567`.",
        "channels": "Those that can be asked for now.",
        "code_length": "Digits of the code.",
        "attempts_left": "Guesses that are left.",
        "calls_left": "Calls that are left.",
        "expires_at": "No later call moves it.",
        "resend_at": "When the next call can be asked for; null where none is left.",
    }

    def alter(self, fields: dict[str, Any]) -> None:
        fields["status"] = _word([*Verification.State.values, Verification.EXPIRED])
        fields["channel"] = _word(CHANNELS)
        fields["channels"] = {"type": "array", "items": _word(CHANNELS)}


class StartViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.StartView"

    def view_replacement(self) -> Any:
        post = _operation(
            "verification_start",
            "Start a verification: place a call.",
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


class VerificationViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.VerificationView"

    def view_replacement(self) -> Any:
        get = _operation(
            "verification_retrieve",
            "Look at a verification.",
            answers={200: serializers.VerificationSerializer},
            errors=NOT_FOUND,
        )
        delete = _operation(
            "verification_cancel",
            "End a pending verification; one that is over stays as it is.",
            answers={204: OpenApiResponse(description="It is over.")},
            errors=NOT_FOUND,
        )
        return extend_schema_view(get=get, delete=delete)(_copy(self.target_class))


class CheckViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.CheckView"

    def view_replacement(self) -> Any:
        post = _operation(
            "verification_check",
            "Check a code; the right one gives the token.",
            request=serializers.CheckSerializer,
            answers={200: CheckedVerificationSerializer},
            fields=("code",),
            errors={
                400: (
                    "The code is wrong or is none, or the verification is over.",
                    f"{INVALID} wrong_code {ENDED}",
                ),
                **NOT_FOUND,
                429: ("Too many wrong codes.", "too_many_attempts"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class ResendViewExtension(OpenApiViewExtension):
    target_class = "django_flashcall.rest_framework.views.ResendView"

    def view_replacement(self) -> Any:
        status, words = CALLING[429]
        post = _operation(
            "verification_resend",
            "Ask for another call of the same verification.",
            request=serializers.ResendSerializer,
            answers={200: serializers.VerificationSerializer},
            fields=("channel", "phone"),
            errors={
                400: (
                    "The number cannot be called, or the verification is over.",
                    f"{INVALID} {ENDED} phone_not_allowed invalid_destination",
                ),
                **NOT_FOUND,
                **CALLING,
                429: (status, f"{words} too_many_attempts"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


class SignupViewExtension(OpenApiViewExtension):
    """Its fields are those of the site's user model."""

    target_class = "django_flashcall.rest_framework.views.SignupView"

    def view_replacement(self) -> Any:
        model = get_user_model()
        request = serializers.SignupSerializer
        names = request().get_fields()
        answer = {
            "type": "object",
            "properties": {
                "id": _primary_key(model._meta.pk),
                model.USERNAME_FIELD: {"type": "string"},
                "phone": {"type": "string", "description": "The verified number."},
            },
            "required": ["id", model.USERNAME_FIELD, "phone"],
        }
        post = _operation(
            "signup",
            "Create an account with a verified number.",
            request=request,
            answers={201: answer},
            fields=names,
            errors={
                400: ("A value is not valid.", f"{INVALID} invalid_token phone_taken"),
            },
        )
        return extend_schema_view(post=post)(_copy(self.target_class))


def _copy(view: Any) -> Any:
    """Return a subclass to be described in place of a view, which stays as it is."""
    return type(view.__name__, (view,), {"__doc__": view.__doc__})


def _operation(
    name: str,
    summary: str,
    *,
    answers: Mapping[int, Any],
    errors: Mapping[int, tuple[str, str]],
    request: Any = None,
    fields: Collection[str] = (),
) -> Any:
    """Return the decorator that describes a method of a view.

    Args:
        name: the operation's name, for generated clients.
        summary: what it does.
        answers: by status, where it succeeds.
        errors: by status: what happened, and words of ``error_code``; added to `ALWAYS`.
        request: the serializer of the body, if there is one.
        fields: fields of the body, under which messages stand.
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
        parameters=[*_headers(described)],
    )


def _headers(described: Mapping[int, Any]) -> Iterable[OpenApiParameter]:
    def header(name: str, kind: Any, words: str, statuses: Any) -> OpenApiParameter:
        return OpenApiParameter(
            name, kind, OpenApiParameter.HEADER, description=words, response=statuses
        )

    yield header("Cache-Control", str, "Always `no-store`.", True)
    waiting = [status for status in (429, 503) if status in described]
    yield header("Retry-After", int, "Seconds until the next permitted request.", waiting)
    yield header("WWW-Authenticate", str, "The site's authentication.", [401])


def _error(words: Collection[str], fields: Collection[str], status: int) -> dict[str, Any]:
    """Return the schema of an error: messages by field or in ``detail``, and facts for programs."""
    names = (*fields, api_settings.NON_FIELD_ERRORS_KEY)
    properties: dict[str, Any] = {
        "error_code": {"type": "string", "enum": list(words)},
        "detail": {"type": "string", "description": "Where no field is at fault."},
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


def _word(words: Iterable[str]) -> dict[str, Any]:
    # Wrapped, so that drf-spectacular does not make a component of it, whose name may be taken by
    # an enumeration of the site's own, and warn of that.
    return {"allOf": [{"type": "string", "enum": list(words)}]}


def _primary_key(field: Any) -> dict[str, Any]:
    match field:
        case models.UUIDField():
            return {"type": "string", "format": "uuid"}
        case models.IntegerField():
            return {"type": "integer"}
        case _:
            return {"type": "string"}
