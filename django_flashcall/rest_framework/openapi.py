"""What the API reads and answers, for drf-spectacular; imported where that is an installed app.

The extensions register themselves. Nothing here changes a view: only what is said of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class VerificationExtension(OpenApiSerializerExtension):
    """The words that a verification is told in."""

    target_class = serializers.VerificationSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        fields = schema["properties"]
        fields["status"] = _word([*Verification.State.values, Verification.EXPIRED])
        fields["channel"] = _word(CHANNELS)
        fields["channels"] = {
            "type": "array",
            "items": _word(CHANNELS),
            "description": "Those that can be asked for now.",
        }
        for name, words in DESCRIPTIONS.items():
            fields[name] = {**fields[name], "description": words}
        return schema


DESCRIPTIONS = {
    "phone": "Whole in the answer to a start, else masked: `+7******4567`.",
    "code_length": "Digits of the code.",
    "attempts_left": "Guesses that are left.",
    "calls_left": "Calls that are left.",
    "expires_at": "No later call moves it.",
    "resend_at": "When the next call can be asked for; null where none is left.",
}


class CallExtension(OpenApiSerializerExtension):
    target_class = serializers.CallSerializer

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(
            self.target, direction, bypass_extensions=True
        )
        schema["properties"]["status"] = _word(Call.Status.values)
        schema["properties"]["error_code"]["description"] = "Why it did not arrive, as a word."
        return schema


class CheckedVerificationSerializer(serializers.VerificationSerializer):
    """A verification that has just succeeded."""

    token = drf.CharField(help_text="Proof of the number, redeemed once.")


class StartExtension(OpenApiViewExtension):
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


class CheckExtension(OpenApiViewExtension):
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


class ResendExtension(OpenApiViewExtension):
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


class SignupExtension(OpenApiViewExtension):
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
    fields: Iterable[str] = (),
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
        described[status] = OpenApiResponse(
            _error([word for _, words in said for word in words.split()], fields, status),
            description=" ".join(description for description, _ in said),
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


def _error(words: Iterable[str], fields: Iterable[str], status: int) -> dict[str, Any]:
    """Return the schema of an error: messages by field or in ``detail``, and facts for programs."""
    messages = {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Any] = {
        "error_code": {"type": "string", "enum": list(dict.fromkeys(words))},
        "detail": {"type": "string", "description": "Where no field is at fault."},
    }
    if status in (400, 403, 429, 503) and fields:
        keys = (*fields, api_settings.NON_FIELD_ERRORS_KEY)
        properties |= {name: messages for name in keys if name is not None}
    if status in (400, 429):
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
