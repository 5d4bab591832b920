"""Requests to the simulated provider, checked against the specification, and their calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from typing import Any, TypeVar

from .answers import Answer

_MAX_TEXT = 2000  # characters of data.text (specification, "Параметры запроса")
_MAX_NOTIFY_URL = 2048  # characters
_MAX_TTL = 5  # minutes (specification, "Параметры запроса")
_CALLING_PREFIX = "+7495123"  # a Moscow number with a 4-digit code; a longer code shortens it
_VOICE_CALLER = "+74951230000"


@dataclass(frozen=True)
class Account:
    """An account with the provider.

    `voice`: calls are answered and the code is spoken with the text of `template` (specification,
    "Результат запроса VoiceCode"). `six_digits`: codes of six digits are allowed as well as four;
    never for voice. `duplicate_control`: a repeated ``id`` gets the first call's mtNum and causes
    no other call; the same text to the same number with another ``id`` within 24 hours is error 10.
    """

    login: str
    password: str = field(repr=False)
    voice: bool = False
    six_digits: bool = False
    duplicate_control: bool = False
    template: str = "Your code is {code}."

    @property
    def code_lengths(self) -> tuple[int, ...]:
        """The allowed lengths of a code."""
        return (4, 6) if self.six_digits and not self.voice else (4,)


@dataclass(frozen=True)
class PlacedCall:
    """A call that the provider would have placed.

    `number` is in E.164 format with the plus sign. `calling_number` is what the phone shows; it
    ends with the `code`, unless the code is `spoken`. `text` is from the request; `time` is aware.
    `reached`: the phone rings; False if it is busy or switched off.
    """

    login: str
    number: str
    text: str
    code: str
    calling_number: str
    voice: bool
    spoken: str
    mt_num: str
    id: str
    notify_url: str
    time: datetime
    reached: bool = True


@dataclass(frozen=True)
class ReceivedRequest:
    """A request to the provider's API, as received.

    `headers` are case-insensitive, `json` is None if the body is not JSON, and `status` is that of
    the answer, or None if there is none.
    """

    method: str
    path: str
    headers: Message
    body: bytes
    json: Any
    status: int | None


class Refused(Exception):
    def __init__(self, code: int, extended: str = "") -> None:
        super().__init__(code, extended)
        self.answer = Answer.error(code, extended)


@dataclass(frozen=True)
class Sending:
    """A valid request."""

    account: Account
    number: str
    text: str
    code: str
    id: str
    notify_url: str

    @classmethod
    def read(cls, accounts: Mapping[str, Account], headers: Message, content: Any) -> Sending:
        """Check a request (specification, "Параметры запроса") and return it, or raise Refused."""
        if headers.get_content_type() != "application/json":
            raise Refused(4, "Content-Type should be application/json.")
        if not isinstance(content, dict):
            raise Refused(4, "The body should be a JSON object in UTF-8.")
        account = accounts.get(_required(content, "login", str))
        if account is None:
            raise Refused(5)
        if _required(content, "password", str) != account.password:
            raise Refused(6)
        address = _required(content, "destAddr", object)
        number = e164(address) if isinstance(address, str) else None
        if number is None:
            raise Refused(8)
        message = _required(content, "message", dict)
        if _required(message, "type", object, "message/") != "FLASHINGCALL":
            raise Refused(9)
        data = _required(message, "data", dict, "message/")
        text = _required(data, "text", str, "message/data/")
        if len(text) > _MAX_TEXT:
            raise Refused(4, f"FlashingCall text should have at most {_MAX_TEXT} characters.")
        runs = re.findall("[0-9]+", text)
        codes = [digits for digits in runs if len(digits) in account.code_lengths]
        if not codes:
            raise Refused(4, "FlashingCall text should contain a 4-digit code.")
        ttl = data.get("ttl", 0)
        if type(ttl) is not int or not 0 <= ttl <= _MAX_TTL:  # bool is a subclass of int
            raise Refused(11)
        id_ = _required(content, "id", str) if "id" in content else None
        if id_ == "":
            raise Refused(4, "id should not be empty.")
        notify_url = _required(content, "notifyUrl", str) if "notifyUrl" in content else None
        if notify_url is not None and not 0 < len(notify_url) <= _MAX_NOTIFY_URL:
            raise Refused(4, f"notifyUrl should have 1 to {_MAX_NOTIFY_URL} characters.")
        return cls(account, number, text, codes[0], id_ or "", notify_url or "")

    def placed(self, mt_num: str, time: datetime, *, reached: bool) -> PlacedCall:
        """Return the call that this request causes."""
        voice = self.account.voice
        prefix = _CALLING_PREFIX[: len(_VOICE_CALLER) - len(self.code)]
        return PlacedCall(
            login=self.account.login,
            number=self.number,
            text=self.text,
            code=self.code,
            calling_number=_VOICE_CALLER if voice else prefix + self.code,
            voice=voice,
            spoken=self.account.template.format(code=" ".join(self.code)) if voice else "",
            mt_num=mt_num,
            id=self.id,
            notify_url=self.notify_url,
            time=time,
            reached=reached,
        )


_T = TypeVar("_T")


def _required(parent: dict[str, Any], name: str, kind: type[_T], path: str = "") -> _T:
    """Return a field of a JSON object, or raise Refused if it is missing or has a wrong type."""
    if name not in parent:
        raise Refused(4, f"{path}{name} is required.")
    value = parent[name]
    if not isinstance(value, kind):
        word = "an object" if kind is dict else "a string"
        raise Refused(4, f"{path}{name} should be {word}.")
    return value


def e164(address: str) -> str | None:
    """Return ``destAddr`` in E.164, or None if it is invalid (specification, "Параметры запроса").

    Eleven digits that start with 8, without a plus sign, are a Russian number.
    """
    if not re.fullmatch(r"\+?[0-9]+(-[0-9]+)*", address):
        return None
    digits = address.removeprefix("+").replace("-", "")
    if len(digits) == 11 and address.startswith("8"):
        digits = "7" + digits[1:]
    lengths = (11,) if digits.startswith("7") else range(7, 16)
    return f"+{digits}" if len(digits) in lengths and not digits.startswith("0") else None
