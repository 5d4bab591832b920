"""Errors as answers: DRF's validation shape, with ``error_code`` and what programs can act on."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from .. import exceptions

OUR_CODES = frozenset(
    error.error_code
    for error in vars(exceptions).values()
    if isinstance(error, type)
    and issubclass(error, exceptions.FlashcallError)
    and hasattr(error, "error_code")
)


class ServiceError(serializers.ValidationError):
    """An error of the services as a validation error of a serializer, with its own status."""

    def __init__(self, error: exceptions.FlashcallError) -> None:
        field = error.field or api_settings.NON_FIELD_ERRORS_KEY
        super().__init__({field: [ErrorDetail(str(error), code=error.error_code)]})
        self.status_code = error.status_code
        self.error_code = error.error_code
        # As integers, which a ValidationError would turn into strings.
        self.facts = {
            name: value
            for name in ("attempts_left", "retry_after")
            if (value := getattr(error, name)) is not None
        }


def handle(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's handler; adds ``error_code`` and, where they mean something, facts and headers."""
    if isinstance(exception, exceptions.VerificationNotFound):
        return Response(
            {"detail": str(exception), "error_code": exception.error_code}, exception.status_code
        )
    if isinstance(exception, exceptions.FlashcallError):
        exception = ServiceError(exception)
    response = exception_handler(exception, context)
    if response is None:
        return None
    if isinstance(response.data, list):
        response.data = {api_settings.NON_FIELD_ERRORS_KEY: response.data}
    response.data["error_code"] = _error_code(exception, response.data)
    if isinstance(exception, ServiceError):
        response.data.update(exception.facts)
        if "retry_after" in exception.facts:
            response["Retry-After"] = str(exception.facts["retry_after"])
    return response


def _error_code(exception: Exception, data: dict[str, Any]) -> str:
    """The word for an answer: the first of ours among its fields, else ``invalid`` or DRF's own."""
    if isinstance(exception, serializers.ValidationError):
        codes = [code for code in _codes(data) if code in OUR_CODES]
        return next((code for code in codes if code != "invalid"), "invalid")
    if isinstance(exception, APIException) and isinstance(exception.detail, ErrorDetail):
        return str(exception.detail.code)
    detail = data.get("detail")
    return str(detail.code) if isinstance(detail, ErrorDetail) else "error"


def _codes(data: Any) -> list[str]:
    if isinstance(data, ErrorDetail):
        return [str(data.code)]
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [code for value in values for code in _codes(value)]
