"""Error responses: the format of DRF with ``error_code`` and values for programs."""

from __future__ import annotations

import math
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, NotFound, PermissionDenied
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings

from .. import database_errors, exceptions

OUR_CODES = frozenset(
    error.error_code
    for error in vars(exceptions).values()
    if isinstance(error, type)
    and issubclass(error, exceptions.FlashcallError)
    and hasattr(error, "error_code")
)


class ServiceError(serializers.ValidationError):
    """A service error as a validation error of a serializer, with its own status."""

    def __init__(self, error: exceptions.FlashcallError) -> None:
        field = error.field or api_settings.NON_FIELD_ERRORS_KEY
        super().__init__({field: [ErrorDetail(str(error), code=error.error_code)]})
        self.status_code = error.status_code
        # Kept apart, because ValidationError would convert the integers to strings.
        self.facts = {
            name: value
            for name in ("attempts_left", "retry_after")
            if (value := getattr(error, name)) is not None
        }


def handle(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to an exception like DRF's handler, with ``error_code`` and more values.

    Unlike DRF's handler, it does not roll back a transaction: our views are not atomic, so only a
    test can have one open.
    """
    if isinstance(exception, (exceptions.VerificationNotFound, exceptions.PhoneNotFound)):
        return Response(
            {"detail": str(exception), "error_code": exception.error_code}, exception.status_code
        )
    if refusal := database_errors.unavailable(exception):
        return _unavailable(refusal, context)
    if isinstance(exception, exceptions.FlashcallError):
        exception = ServiceError(exception)
    elif isinstance(exception, Http404):
        exception = NotFound()
    elif isinstance(exception, DjangoPermissionDenied):
        exception = PermissionDenied()
    if not isinstance(exception, APIException):
        return None
    return Response(_body(exception), exception.status_code, headers=_headers(exception))


def _unavailable(error: exceptions.Unavailable, context: dict[str, Any]) -> Response:
    """Return a response whose rendering needs no database; that of the browsable API does."""
    if request := context.get("request"):
        request.accepted_renderer = JSONRenderer()
        request.accepted_media_type = JSONRenderer.media_type
    body = {"detail": str(error), "error_code": error.error_code, "retry_after": error.retry_after}
    return Response(body, error.status_code, headers={"Retry-After": str(error.retry_after)})


def _body(exception: APIException) -> dict[str, Any]:
    """Return errors by field or ``detail``, with our first ``error_code`` or the one of DRF."""
    detail = exception.detail
    if not isinstance(exception, serializers.ValidationError):
        body = detail if isinstance(detail, dict) else {"detail": detail}
        return {**body, "error_code": getattr(detail, "code", exception.default_code)}
    ours = [code for code in _codes(detail) if code in OUR_CODES and code != "invalid"]
    body = detail if isinstance(detail, dict) else {api_settings.NON_FIELD_ERRORS_KEY: detail}
    return {**body, "error_code": next(iter(ours), "invalid"), **getattr(exception, "facts", {})}


def _headers(exception: APIException) -> dict[str, str]:
    """Return the headers of DRF's handler, with our ``Retry-After``."""
    headers = {}
    if challenge := getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    seconds = getattr(exception, "facts", {}).get("retry_after", getattr(exception, "wait", None))
    if seconds is not None:
        headers["Retry-After"] = str(math.ceil(seconds))
    return headers


def _codes(data: Any) -> list[str]:
    if isinstance(data, ErrorDetail):
        return [str(data.code)]
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [code for value in values for code in _codes(value)]
