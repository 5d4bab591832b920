"""The answers of the simulated provider, selected by the last digits of the number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Self

#: Error code -> description and HTTP status (specification, "Коды ошибок отправки").
ERRORS: Mapping[int, tuple[str, int]] = {
    1: ("Service is unavailable", 503),
    2: ("Invalid IP-address", 403),
    3: ("Too many connections", 429),
    4: ("Invalid request", 400),
    5: ("Invalid login", 401),
    6: ("Invalid password", 401),
    7: ("serviceNumber is not defined", 400),
    8: ("destAddr is not correct", 406),
    9: ("Message type is not correct", 406),
    10: ("Prohibited sending duplicates", 409),
    11: ("Invalid TTL", 406),
    100: ("100", 500),
}


_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_HTML_PAGE = b"<!DOCTYPE html><html><title>Gateway</title><h1>A page of a proxy</h1></html>"


class Manner(Enum):
    """How an answer is sent to the client."""

    WHOLE = "at once"
    HANG = "never: nothing until either side closes the connection"
    RESET = "never: the connection is reset"
    DRIP_HEADERS = "byte by byte from the status line on"
    DRIP_BODY = "headers at once, the body byte by byte"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a valid request, and what happens to the call; by default success.

    `status` and `body`: as sent; the default body is ``{"mtNum": …, "id": …}``, with the mtNum as
    in `mt_num`. `location`: target of a redirect. `manner`: how the answer is sent. `rings`: the
    call is placed. `outcome`: status and errorCode of the final delivery report, None for no
    reports at all. `report_first`: reports are posted before the answer, without delay.
    """

    status: int = 200
    body: bytes | None = None
    content_type: str = _JSON
    location: str = ""
    mt_num: Literal["string", "number", "absent"] = "string"
    manner: Manner = Manner.WHOLE
    rings: bool = True
    outcome: tuple[int, int] | None = (2, 0)
    report_first: bool = False

    @classmethod
    def error(cls, code: int, extended: str = "", *, status: int | None = None) -> Self:
        """Return an error of the specification; `status` replaces its HTTP status."""
        description, http_status = ERRORS[code]
        content: dict[str, object] = {"error": {"code": code, "description": description}}
        if extended:
            content["extendedDescription"] = extended
        return cls(status=status or http_status, body=dumps(content), rings=False)


def dumps(content: object) -> bytes:
    return json.dumps(content).encode()


def loads(body: bytes) -> Any:
    """Return the content of a JSON body, or None if it is invalid."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


#: Last four digits of the number -> the answers to its requests in turn; the last one repeats.
STEERING: Mapping[str, tuple[Answer, ...]] = {
    "9900": (Answer.error(100),),
    **{f"99{code:02}": (Answer.error(code),) for code in range(1, 12)},
    "9920": (Answer(manner=Manner.HANG),),
    "9921": (Answer(manner=Manner.RESET),),
    "9922": (Answer(manner=Manner.DRIP_HEADERS),),
    "9923": (Answer(manner=Manner.DRIP_BODY),),
    "9924": (Answer(status=502, body=_HTML_PAGE, content_type=_HTML),),
    "9925": (Answer(body=_HTML_PAGE, content_type=_HTML),),
    "9926": (Answer(body=dumps({"padding": "x" * 64 * 1024})),),
    "9927": (Answer(status=307, body=b"", location="/redirected", rings=False),),
    "9928": (Answer.error(8, status=200),),
    "9929": (Answer(mt_num="absent"),),
    "9930": (Answer(mt_num="number"),),
    "9931": (Answer(body=b"[]"),),
    "9932": (Answer(body=b'"accepted"'),),
    "9933": (Answer(body=b"null"),),
    "9934": (Answer(body=b'{"mtNum": "\xff\xfe"}'),),
    "9935": (Answer(body=b""),),
    "9941": (Answer.error(1), Answer()),
    "9943": (Answer.error(3), Answer()),
    **{f"99{50 + code}": (Answer(outcome=(5, code)),) for code in (1, 2, 4, 6, 16)},
    "9960": (Answer(outcome=None),),
    "9961": (Answer(report_first=True),),
}
