"""The FlashingCall REST API of Rapporto: flash calls, and voice codes with a separate account.

"FlashingCall API" in the docstrings refers to the provider's page "FlashingCall (VoiceCode)".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from http import HTTPStatus
from typing import Any, ClassVar

import requests
from django.utils.dateparse import parse_datetime

from ..exceptions import (
    DuplicateRejected,
    MalformedReport,
    Misconfigured,
    NumberRejected,
    ProviderError,
    TemporaryFailure,
    UnknownOutcome,
)
from ..redaction import Secret, plain_text
from .base import CallRequest, Receipt, Report, WebhookRequest
from .http import CONNECT_TIMEOUT, POOL_SIZE, RETRIES, TIMEOUT, Answer, HTTPBackend, Verdict
from .options import Rule, is_text, is_url, is_whole

__all__ = ["FlashingCallBackend"]

TTL = 1
"""Minutes in which the provider tries to place a call; a visitor does not wait longer."""

NOTIFY_URL_LENGTH = 2048


class ErrorCode(IntEnum):
    """Error codes (FlashingCall API, «Коды ошибок отправки»)."""

    UNAVAILABLE = 1
    INVALID_IP = 2
    TOO_MANY_CONNECTIONS = 3
    INVALID_REQUEST = 4
    INVALID_LOGIN = 5
    INVALID_PASSWORD = 6
    NO_SERVICE_NUMBER = 7
    INVALID_DESTINATION = 8
    INVALID_TYPE = 9
    DUPLICATE = 10
    INVALID_TTL = 11
    INTERNAL = 100


KINDS: Mapping[int, type[ProviderError]] = {
    ErrorCode.UNAVAILABLE: TemporaryFailure,
    ErrorCode.INVALID_IP: Misconfigured,
    ErrorCode.TOO_MANY_CONNECTIONS: TemporaryFailure,
    ErrorCode.INVALID_REQUEST: Misconfigured,
    ErrorCode.INVALID_LOGIN: Misconfigured,
    ErrorCode.INVALID_PASSWORD: Misconfigured,
    ErrorCode.NO_SERVICE_NUMBER: Misconfigured,
    ErrorCode.INVALID_DESTINATION: NumberRejected,
    ErrorCode.INVALID_TYPE: Misconfigured,
    ErrorCode.DUPLICATE: DuplicateRejected,
    ErrorCode.INVALID_TTL: Misconfigured,
}
"""Exceptions for errors 1 to 11, after which certainly no call was placed."""


OUTCOMES = {0: "sent", 2: "delivered", 5: "undelivered", 9: "delivered"}
"""``status`` of a delivery report → outcome; other statuses are ignored."""

REASONS = {2: "absent_subscriber", 4: "failure", 6: "not_provisioned", 16: "busy"}
"""``errorCode`` of a delivery report → reason; all others are ``unknown``."""


class FlashingCallBackend(HTTPBackend):
    """Place calls through the FlashingCall API.

    A voice code is the same request: the account decides whether the call is answered and the code
    spoken (FlashingCall API, «Результат запроса VoiceCode»). Use a second alias for voice codes.

    Args:
        alias: the alias in ``BACKENDS``.
        url: the URL from the provider's contract.
        login: the login of the account.
        password: the password of the account.
        ttl: minutes in which the call may be placed, 1 to 5; 0 uses the account's default.
        connect_timeout: seconds for one attempt to connect to one address.
        timeout: seconds in total, including retries and pauses; at most 15.
        retries: maximum number of retries; none is made that could ring the phone twice.
        duplicate_control: True if the provider has enabled duplicate control by ``id`` for the
            account; only then are lost responses and error 100 retried.
        pool_size: connections to keep open, for all threads.
        notify_url: URL for delivery reports of these calls; empty uses the URL of the contract.
        verify: True, or the path of a bundle of CA certificates.
    """

    secret_options = frozenset({"password", "notify_url"})
    report_methods = frozenset({"POST"})

    option_rules: ClassVar[Mapping[str, Rule]] = {
        **HTTPBackend.option_rules,
        "login": Rule(is_text, "a string, not empty"),
        "password": Rule(is_text, "a string, not empty"),
        "ttl": Rule(is_whole(0, 5), "a whole number of minutes, 0 to 5", "django_flashcall.E007"),
        "notify_url": Rule(
            lambda value: value == "" or (is_url(value) and len(value) <= NOTIFY_URL_LENGTH),
            f"an http(s) URL of at most {NOTIFY_URL_LENGTH} characters, or empty",
        ),
    }

    def __init__(
        self,
        alias: str,
        *,
        url: str,
        login: str,
        password: str,
        ttl: int = TTL,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        duplicate_control: bool = False,
        pool_size: int = POOL_SIZE,
        notify_url: str = "",
        verify: bool | str = True,
    ) -> None:
        super().__init__(
            alias,
            url=url,
            connect_timeout=connect_timeout,
            timeout=timeout,
            retries=retries,
            duplicate_control=duplicate_control,
            pool_size=pool_size,
            verify=verify,
        )
        self.login = login
        self.ttl = ttl
        self._password = Secret(password)
        self._notify_url = Secret(notify_url)

    def wire_request(self, call: CallRequest) -> requests.Request:
        """Return the request with all required fields (FlashingCall API, «Параметры запроса»).

        It also has ``id``, so that the provider can drop duplicates and identify the call in
        delivery reports, and ``notifyUrl``, the URL for these reports.
        """
        return requests.Request(
            "POST",
            self.url,
            headers={"Accept": "application/json"},
            json={
                "login": self.login,
                "password": self._password,
                "destAddr": call.phone.removeprefix("+"),
                "message": {"type": "FLASHINGCALL", "data": {"text": call.code, "ttl": self.ttl}},
                "id": call.reference,
                **({"notifyUrl": self._notify_url} if self._notify_url else {}),
            },
        )

    def judge(self, answer: Answer, call: CallRequest, *, repeated: bool) -> Verdict:
        """Translate a response (FlashingCall API, «Ошибки при отправке»).

        An *error object* is an error, whatever the status. Without one, a JSON object with status
        200 is a success, and any other status is an error after which the phone may be ringing.
        """
        content = _json(answer.body)
        if isinstance(content, dict) and isinstance(content.get("error"), dict):
            return self._judge_error(content, answer.status, call, repeated=repeated)
        if answer.status != HTTPStatus.OK:
            return Verdict(
                TemporaryFailure(
                    f"Status {answer.status} without an error of the specification.",
                    http_status=answer.status,
                    may_have_been_placed=True,
                )
            )
        if isinstance(content, dict) and content.get("error") is None:
            return Verdict(Receipt(_identifier(content.get("mtNum"))))
        words = "that is too long or incomplete" if answer.body is None else "that is not valid"
        return Verdict(
            UnknownOutcome(f"Status 200 with an answer {words}.", http_status=answer.status),
            ask_again=answer.body is None and self.duplicate_control,
        )

    def _judge_error(
        self, content: dict[str, Any], status: int, call: CallRequest, *, repeated: bool
    ) -> Verdict:
        error = content["error"]
        code = _whole(error.get("code"), digits=9)
        if code == ErrorCode.DUPLICATE and repeated:
            return Verdict(Receipt())  # our first attempt was accepted
        texts = error.get("description"), content.get("extendedDescription")
        secrets = self._password, self._notify_url, call.phone.removeprefix("+"), call.code
        words = ": ".join(filter(None, (plain_text(text, secrets=secrets) for text in texts)))
        if code is not None and code in KINDS:
            failure = KINDS[code](words, code=code, http_status=status)
            return Verdict(failure, ask_again=isinstance(failure, TemporaryFailure))
        # Error 100 and unknown codes do not say that no call was placed.
        return Verdict(
            TemporaryFailure(words, code=code, http_status=status, may_have_been_placed=True),
            ask_again=code == ErrorCode.INTERNAL and self.duplicate_control,
        )

    def parse_reports(self, request: WebhookRequest) -> Sequence[Report]:
        """Parse a delivery report (the provider's REST API, «Отчеты о доставке»).

        Its ``text`` contains the code, so it is ignored.
        """
        content = _json(request.body)
        if not isinstance(content, dict):
            raise MalformedReport
        provider_id, reference = (_identifier(content.get(name)) for name in ("mtNum", "id"))
        status = _whole(content.get("status"), digits=3)
        if status is None or not (provider_id or reference):
            raise MalformedReport
        outcome = OUTCOMES.get(status)
        if outcome is None or content.get("type", "FLASHINGCALL") != "FLASHINGCALL":
            return ()
        failed = outcome == "undelivered"
        said = (_price(content.get(name)) for name in ("messagePrice", "segmentPrice"))
        prices = [price for price in said if price is not None]
        number = _whole(content.get("errorCode"), digits=9)
        return [
            Report(
                backend=self.alias,
                outcome=outcome,
                provider_id=provider_id,
                reference=reference,
                error_code=REASONS.get(number or 0, "unknown") if failed else "",
                provider_code=number if failed else None,
                mcc_mnc=_mcc_mnc(content.get("mccMnc")),
                price=prices[0] if prices else None,
                submitted_at=_date(content.get("submitDate")),
                done_at=_date(content.get("doneDate")),
            )
        ]


def _json(body: bytes | None) -> Any:
    """Return the content of a JSON text in UTF-8; None if it is invalid."""
    try:
        return json.loads((body or b"").decode("utf-8-sig"))
    except (ValueError, RecursionError):  # also for huge numbers and deep nesting
        return None


def _whole(value: Any, digits: int) -> int | None:
    """Return an integer of at most `digits` digits, also from a string; None for other values."""
    if isinstance(value, str) and re.fullmatch(f"[0-9]{{1,{digits}}}", value):
        return int(value)
    return value if type(value) is int and 0 <= value < 10**digits else None


def _identifier(value: Any) -> str:
    """Return ``mtNum`` or ``id`` as a string of printable ASCII; empty if it is invalid."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return text if re.fullmatch("[!-~]{1,64}", text) else ""


def _mcc_mnc(value: Any) -> str:
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if re.fullmatch("[0-9]{5,6}", text) else ""


def _price(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or len(str(value)) > 20:
        return None
    try:
        given = Decimal(str(value))
        price = given.quantize(Decimal("0.0001"))
        return price if given >= 0 and price < 10**8 else None
    except InvalidOperation:
        return None


def _date(value: Any) -> datetime | None:
    """Return an ISO 8601 date with an offset; None if it is invalid or its year is implausible.

    It is in UTC: PostgreSQL does not take every offset that Python does.
    """
    try:
        date = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if date is None or date.tzinfo is None or not 2000 < date.year < 2200:
        return None
    return date.astimezone(UTC)
