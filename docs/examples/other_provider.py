"""A backend for a provider that differs from ours in all that can differ.

It chooses the code itself, answers every request with status 200 and says in the body whether it
succeeded, and reports by ``GET``. Nobody sells this API; the fake one of our tests speaks it::

    POST /calls   Authorization: Bearer <key>
    {"to": "+79161234567", "digits": 4, "ref": "…"}

    {"ok": true, "call": "c-1001", "code": "7391"}
    {"ok": false, "reason": "bad_number", "text": "No such number"}

    GET <your address>?call=c-1001&ref=…&state=failed&cause=busy
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import requests

from django_flashcall.backends import CallRequest, Receipt, Report, WebhookRequest
from django_flashcall.backends.http import Answer, HTTPBackend, Verdict
from django_flashcall.backends.options import Rule, is_text
from django_flashcall.exceptions import (
    DuplicateRejected,
    MalformedReport,
    Misconfigured,
    NumberRejected,
    ProviderError,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.redaction import Secret, plain_text

# What a reason means, where it says for certain that no call was placed.
KINDS: Mapping[str, type[ProviderError]] = {
    "bad_number": NumberRejected,
    "repeated": DuplicateRejected,
    "busy": TemporaryFailure,
    "bad_key": Misconfigured,
    "no_money": Misconfigured,
    "bad_request": Misconfigured,
}
OUTCOMES = {"dialing": "sent", "answered": "delivered", "failed": "undelivered"}
CAUSES = {"busy": "busy", "off": "absent_subscriber", "network": "failure"}


class OtherBackend(HTTPBackend):
    """Places calls whose code the provider chooses."""

    chooses_code = True
    secret_options = frozenset({"key"})
    report_methods = frozenset({"GET"})
    option_rules: ClassVar[Mapping[str, Rule]] = {
        **HTTPBackend.option_rules,
        "key": Rule(is_text, "a string, not empty"),
    }

    def __init__(self, alias: str, *, url: str, key: str, timeout: float = 10.0) -> None:
        super().__init__(alias, url=url, timeout=timeout)
        self._key = Secret(key)

    def wire_request(self, call: CallRequest) -> requests.Request:
        return requests.Request(
            "POST",
            self.url,
            # Not an f-string: its result would be an ordinary string, which a traceback shows.
            headers={"Authorization": Secret("Bearer " + self._key)},
            json={"to": call.phone, "digits": call.code_length, "ref": call.reference},
        )

    def judge(self, answer: Answer, call: CallRequest, *, repeated: bool) -> Verdict:
        content = _object(answer.body)
        if content.get("ok") is False:
            return self._judge_error(content, answer.status)
        call_id, code = (content.get(name) for name in ("call", "code"))
        if answer.status == HTTPStatus.OK and content.get("ok") is True and isinstance(code, str):
            return Verdict(Receipt(_identifier(call_id), Secret(code)))
        # The phone may be ringing, but nobody knows with which code.
        return Verdict(UnknownOutcome("No answer that makes sense.", http_status=answer.status))

    def _judge_error(self, content: Mapping[str, Any], status: int) -> Verdict:
        words = plain_text(content.get("text"), secrets=[self._key])
        kind = KINDS.get(str(content.get("reason")))
        if kind is not None:
            return Verdict(kind(words, http_status=status), ask_again=kind is TemporaryFailure)
        # A reason that we do not know: nobody says that no call was placed.
        return Verdict(TemporaryFailure(words, http_status=status, may_have_been_placed=True))

    def parse_reports(self, request: WebhookRequest) -> Sequence[Report]:
        call_id, reference = (_identifier(request.query.get(name)) for name in ("call", "ref"))
        outcome = OUTCOMES.get(request.query.get("state", ""))
        if outcome is None or not (call_id or reference):
            raise MalformedReport
        cause = request.query.get("cause", "")
        return [
            Report(
                backend=self.alias,
                outcome=outcome,
                provider_id=call_id,
                reference=reference,
                error_code=CAUSES.get(cause, "unknown") if outcome == "undelivered" else "",
            )
        ]


def _object(body: bytes | None) -> Mapping[str, Any]:
    """Return the JSON object in a body; an empty one where it is none."""
    try:
        content = json.loads((body or b"").decode())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _identifier(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch("[!-~]{1,64}", value) else ""
