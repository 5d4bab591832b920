"""The parser of the API: JSON of a limited size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.utils.translation import gettext_lazy as _
from rest_framework import parsers, status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.utils.json import strict_constant

from ..redaction import Secret

MAX_BODY_BYTES = 64 * 1024


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request is too large.")
    default_code = "too_large"


class Body(dict[str, Any]):
    """A JSON object. Tracebacks and error reports show neither it nor the texts in its fields."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        values = ((k, Secret(v) if isinstance(v, str) else v) for k, v in content.items())
        super().__init__(values)

    def __repr__(self) -> str:
        return "{…}"


class JSONParser(parsers.BaseParser):
    """Parse JSON of at most 64 KiB.

    It is not a subclass of DRF's parser, for which the whole body is read first. JSON is always
    UTF-8 (RFC 8259, section 8.1), whatever charset the request names.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        # Check Content-Length first, so that no worker waits for a body that it will reject.
        announced = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or ""
        if announced.isdecimal() and int(announced[:9]) > MAX_BODY_BYTES:
            raise BodyTooLarge
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            content = json.loads(body.decode(), parse_constant=strict_constant)
        except (ValueError, RecursionError):
            raise ParseError(_("The request is not valid JSON.")) from None
        return Body(content) if isinstance(content, dict) else content
