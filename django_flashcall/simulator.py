"""The provider's API on a local port, for tests, demos and development.

It speaks the FlashingCall REST API over real HTTP, checks requests as strictly as the provider,
remembers whom it would have called, and posts delivery reports. Nobody is called and nothing
costs money. Only the standard library is needed, no Django::

    with Simulator() as simulator:
        requests.post(simulator.url, json={"login": "demo", "password": "demo", ...})
        assert simulator.last_call("+79161234567").code == "1234"

or ``python -m django_flashcall.simulator --port 8800 --login demo --password demo``.

The last four digits of the number called decide what happens. *Rings* says whether the phone rings
all the same, which after a lost or senseless answer the caller cannot know. What follows "reported"
happens where reports are posted (``auto_reports``). "Once" lasts until `Simulator.clear`.

============  ===============================================================  =====
Ending        What happens                                                     Rings
============  ===============================================================  =====
9900          error 100, internal to the provider                              no
9901 to 9911  error 1 to 11                                                    no
9920          no answer until either side closes the connection                yes
9921          the connection is reset before an answer                         yes
9922          success, the status line and headers at a byte a second          yes
9923          success, the body at a byte a second                             yes
9924          a proxy's HTML page with status 502                              yes
9925          an HTML page with status 200                                     yes
9926          status 200 with a JSON body of more than 64 KiB                  yes
9927          a redirect (status 307) to another path of the simulator         no
9928          status 200 with the object of error 8                            no
9929          status 200 without mtNum                                         yes
9930          success with mtNum as a JSON number                              yes
9931          status 200 with a JSON list                                      yes
9932          status 200 with a JSON string                                    yes
9933          status 200 with a JSON null                                      yes
9934          status 200 with a body that is not UTF-8                         yes
9935          status 200 with an empty body                                    yes
9941          error 1 once for this number, then success                       then
9943          error 3 once for this number, then success                       then
9951          success, reported undelivered: 1, unknown                        yes
9952          success, reported undelivered: 2, absent-subscriber              yes
9954          success, reported undelivered: 4, failure                        yes
9956          success, reported undelivered: 6, teleservice-not-provisioned    yes
9960          success, never reported                                          yes
9961          success, reported delivered before the answer is sent            yes
9966          success, reported undelivered: 16, busy                          yes
others        success, reported delivered                                      yes
============  ===============================================================  =====
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import socket
import socketserver
import struct
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from enum import Enum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler
from itertools import count
from types import EllipsisType, TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

#: Error of a send -> description and HTTP status (specification, "Коды ошибок отправки").
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
_MAX_TEXT = 2000  # characters of data.text (specification, "Параметры запроса")
_MAX_NOTIFY_URL = 2048  # characters
_MAX_TTL = 5  # minutes (specification, "Параметры запроса")
_MAX_BODY = 1024 * 1024  # bytes of a request that are read
_DUPLICATES = timedelta(hours=24)  # how long number and text are remembered (sibling HTTP API)
_REPORT_TIMEOUT = 5.0  # seconds that a receiver of reports may be silent
_MOSCOW = timezone(timedelta(hours=3))  # the offset in the provider's examples
_CALLING_PREFIX = "+7495123"  # with four digits after it a Moscow number; a longer code shortens it
_VOICE_CALLER = "+74951230000"


@dataclass(frozen=True)
class Account:
    """A partner's account with the provider.

    `voice`: calls are answered and the code is spoken in the words of `template` (specification,
    "Результат запроса VoiceCode"). `six_digits`: codes of six digits are enabled beside those of
    four; never for voice. `duplicate_control`: a repeated ``id`` gets the first call's mtNum and
    causes no other call; the same text to the same number under another ``id`` within 24 hours is
    error 10.
    """

    login: str
    password: str = field(repr=False)
    voice: bool = False
    six_digits: bool = False
    duplicate_control: bool = False
    template: str = "Your code is {code}."

    @property
    def code_lengths(self) -> tuple[int, ...]:
        """The numbers of digits that a code may have."""
        return (4, 6) if self.six_digits and not self.voice else (4,)


class Manner(Enum):
    """How an answer is brought to the client."""

    WHOLE = "at once"
    HANG = "never: nothing until either side closes the connection"
    RESET = "never: the connection is reset"
    DRIP_HEADERS = "byte by byte from the status line on"
    DRIP_BODY = "headers at once, the body byte by byte"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a valid request is answered and what becomes of the call; by default success.

    `status` and `body`: as sent; without a body it is ``{"mtNum": …, "id": …}``, the mtNum as
    `mt_num` says. `location`: target of a redirect. `manner`: how the answer is sent. `rings`: the
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
        """Return an error of the specification; `status` replaces the HTTP status of its table."""
        description, http_status = ERRORS[code]
        content: dict[str, object] = {"error": {"code": code, "description": description}}
        if extended:
            content["extendedDescription"] = extended
        return cls(status=status or http_status, body=_dumps(content), rings=False)


def _dumps(content: object) -> bytes:
    return json.dumps(content).encode()


def _parsed(body: bytes) -> Any:
    """Return what a body says in JSON, None where it is none."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


#: Last four digits of the number -> the answers that its requests get in turn; the last one stays.
STEERING: Mapping[str, tuple[Answer, ...]] = {
    "9900": (Answer.error(100),),
    **{f"99{code:02}": (Answer.error(code),) for code in range(1, 12)},
    "9920": (Answer(manner=Manner.HANG),),
    "9921": (Answer(manner=Manner.RESET),),
    "9922": (Answer(manner=Manner.DRIP_HEADERS),),
    "9923": (Answer(manner=Manner.DRIP_BODY),),
    "9924": (Answer(status=502, body=_HTML_PAGE, content_type=_HTML),),
    "9925": (Answer(body=_HTML_PAGE, content_type=_HTML),),
    "9926": (Answer(body=_dumps({"padding": "x" * 64 * 1024})),),
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


@dataclass(frozen=True)
class PlacedCall:
    """A call that the provider would have made.

    `number` is in E.164 with the plus; `calling_number` is what the phone displays, its last digits
    the `code`, unless the code is `spoken`. `text` is what the request said; `time` has a zone.
    `reached`: the phone rings; not one that is busy or switched off, as its report will say.
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
    """A request to the provider's API, as it came.

    `headers` looks names up in any case, `json` is None where the body is not JSON, and `status` is
    that of the answer, None where none is sent.
    """

    method: str
    path: str
    headers: Message
    body: bytes
    json: Any
    status: int | None


class Simulator:
    """The provider, as a context manager or between `start` and `stop`; any thread may use it.

    Arguments: `accounts`, by default ``demo`` and, for spoken codes, ``demo-voice``, both with the
    password ``demo``; `host` and `port` to listen on, port 0 for any free one; `report_url`, where
    reports go if a request has no ``notifyUrl``; `auto_reports`, whether each call is reported by
    itself: status 0 after the answer, the final one `report_delay` seconds later; `drip`, the
    seconds between two bytes of a slow answer; `clock`, which returns the time with a zone.
    """

    def __init__(
        self,
        accounts: Iterable[Account] = (
            Account("demo", "demo"),
            Account("demo-voice", "demo", voice=True),
        ),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        report_url: str = "",
        auto_reports: bool = False,
        report_delay: float = 0.0,
        drip: float = 1.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.accounts = {account.login: account for account in accounts}
        self.host = host
        self.port = port
        self.report_url = report_url
        self.auto_reports = auto_reports
        self.report_delay = report_delay
        self.drip = drip
        self._clock = clock
        # Random, so that the reports of two runs never mean the same call of a kept database.
        self._mt_nums = count(10**9 + secrets.randbelow(8 * 10**9))
        self._changed = threading.Condition()  # guards all that follows
        self._calls: list[PlacedCall] = []
        self._requests: list[ReceivedRequest] = []
        self._script: deque[Answer] = deque()
        self._turns: Counter[str] = Counter()
        self._statuses: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._server: _Server | None = None

    # Its life

    def start(self) -> Self:
        """Listen and serve in background threads; return the simulator."""
        if self._server is not None:
            raise RuntimeError("The simulator is running already.")
        self._stopping.clear()
        self._server = _Server((self.host, self.port), self)
        self._spawn(self._server.serve_forever, 0.02)  # seconds until it notices `stop`
        return self

    def stop(self) -> None:
        """Break off all that is in progress, wait for every thread and free the port."""
        if self._server is None:
            return
        with self._changed:
            self._stopping.set()  # from here on there is no new thread and no new connection
        self._server.shutdown()
        with self._changed:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address of the provider's API, which every path beneath it serves too."""
        if self._server is None:
            raise RuntimeError("The simulator is not running.")
        return f"http://{self.host}:{self._server.server_address[1]}/"

    # What it shall do

    def script(self, *answers: Answer) -> None:
        """Give these answers to the next valid requests, in order, whatever their numbers say.

        An invalid request gets its error and leaves the script as it is.
        """
        with self._changed:
            self._script.extend(answers)

    def clear(self) -> None:
        """Forget calls, requests, scripted answers and what happens only once."""
        with self._changed:
            self._calls.clear()
            self._requests.clear()
            self._script.clear()
            self._turns.clear()
            self._statuses.clear()

    # What it remembers

    @property
    def calls(self) -> list[PlacedCall]:
        """The calls placed so far, oldest first."""
        with self._changed:
            return list(self._calls)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests to the provider's API so far, oldest first."""
        with self._changed:
            return list(self._requests)

    def last_call(self, number: str) -> PlacedCall:
        """Return the newest call to a number, written as for ``destAddr``, or raise LookupError."""
        wanted = _e164(number)
        for call in reversed(self.calls):
            if call.number == wanted:
                return call
        raise LookupError(f"{number} was not called.")

    def wait_for_call(self, n: int = 1, timeout: float | None = 5.0) -> PlacedCall:
        """Return the `n`-th call (from 1) as soon as it is placed.

        Raise TimeoutError if it is not within `timeout` seconds; None waits for ever.
        """
        with self._changed:
            if self._changed.wait_for(lambda: len(self._calls) >= n, timeout):
                return self._calls[n - 1]
        raise TimeoutError(f"Call {n} was not placed within {timeout} seconds.")

    def recent_calls(self, limit: int = 50) -> list[dict[str, object]]:
        """Return what ``GET /calls`` shows: the latest calls, newest first, ready for JSON.

        `status` is that of the last report, None before any.
        """
        with self._changed:
            return [
                {
                    "number": call.number,
                    "calling_number": call.calling_number,
                    "code": call.code,
                    "voice": call.voice,
                    "spoken": call.spoken,
                    "time": call.time.isoformat(),
                    "mtNum": call.mt_num,
                    "status": self._statuses.get(call.mt_num),
                    "reached": call.reached,
                }
                for call in self._calls[: -limit - 1 : -1]
            ]

    # Delivery reports

    def report(
        self, call: PlacedCall, status: int = 2, error_code: int | str = 0, **overrides: object
    ) -> int | None:
        """Post a delivery report (specification, "rest_status") and wait for the answer.

        `status` is 0 (sent), 2 (delivered) or 5 (not delivered, for the reason `error_code`);
        `overrides` replace fields by their JSON names, and ``...`` leaves a field out. Return the
        HTTP status of the receiver's answer, or None if there is none.
        """
        url = call.notify_url or self.report_url
        if not _is_http_url(url):
            raise ValueError("Reports need an http(s) notifyUrl or report_url.")
        done = _report_date(self._clock()) if status == 2 else ""
        content: dict[str, object | EllipsisType] = {
            "id": call.id or ...,
            "mtNum": call.mt_num,
            "status": status,
            "type": "FLASHINGCALL",
            "doneDate": done,
            "submitDate": _report_date(call.time),
            "sourceAddr": "SOURCE",
            "destAddr": call.number.removeprefix("+"),
            "text": call.text,
            "partCount": "001",
            "errorCode": str(error_code),
            "mccMnc": "25012",
            "trafficType": 6,
            **overrides,
        }
        with self._changed:
            self._statuses[call.mt_num] = status
        return self._post(url, _dumps({k: v for k, v in content.items() if v is not ...}))

    def _post(self, url: str, body: bytes) -> int | None:
        parts = urlsplit(url)
        # Not urllib.request, which would follow redirects and the environment's proxies.
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_REPORT_TIMEOUT)
        target = parts._replace(scheme="", netloc="", path=parts.path or "/", fragment="").geturl()
        try:
            connection.connect()
            with self._interruptible(connection.sock):
                connection.request("POST", target, body, {"Content-Type": "application/json"})
                return connection.getresponse().status
        except (OSError, HTTPException, ValueError):  # gone, senseless, or a host that is no name
            return None
        finally:
            connection.close()

    def _report_all(self, call: PlacedCall, answer: Answer, delay: float) -> None:
        if answer.outcome and _is_http_url(call.notify_url or self.report_url):
            self.report(call, 0)
            if not self._stopping.wait(delay):
                self.report(call, *answer.outcome)

    # Requests

    def _decide(self, headers: Message, content: Any) -> tuple[Answer, bytes, PlacedCall | None]:
        """Return the answer to a request, its body, and the call if a new one was placed."""
        try:
            return self._accept(_Sending.read(self.accounts, headers, content))
        except _Refused as refused:
            return refused.answer, refused.answer.body or b"", None

    def _accept(self, sending: _Sending) -> tuple[Answer, bytes, PlacedCall | None]:
        earlier = self._earlier(sending) if sending.account.duplicate_control else None
        if self._script:
            answer = self._script.popleft()
        else:
            answers = STEERING.get(sending.number[-4:], (Answer(),))
            answer = answers[min(self._turns[sending.number], len(answers) - 1)]
            self._turns[sending.number] += 1
        mt_num = earlier.mt_num if earlier else str(next(self._mt_nums))
        placed = None
        if answer.rings and earlier is None:
            reached = answer.outcome is None or answer.outcome[0] != 5
            placed = sending.placed(mt_num, self._clock(), reached=reached)
            self._calls.append(placed)
            self._changed.notify_all()
        if answer.body is not None:
            return answer, answer.body, placed
        content: dict[str, object] = {}
        if answer.mt_num != "absent":
            content["mtNum"] = int(mt_num) if answer.mt_num == "number" else mt_num
        if sending.id:
            content["id"] = sending.id
        return answer, _dumps(content), placed

    def _earlier(self, sending: _Sending) -> PlacedCall | None:
        """Return the call that this repeats, if any; refuse a duplicate under another id."""
        mine = [call for call in self._calls if call.login == sending.account.login]
        for call in mine:
            if sending.id and call.id == sending.id:
                return call
        for call in mine:
            same = (call.number, call.text) == (sending.number, sending.text)
            if same and self._clock() - call.time < _DUPLICATES:
                raise _Refused(10)
        return None

    # Threads and connections, so that `stop` finds them

    def _spawn(self, target: Callable[..., None], *arguments: object) -> bool:
        """Run this in a thread of its own, or return False if the simulator is stopping."""
        with self._changed:
            if self._stopping.is_set():
                return False
            thread = threading.Thread(target=target, args=arguments, daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()]
            thread.start()
            self._threads.append(thread)
            return True

    @contextlib.contextmanager
    def _interruptible(self, connection: socket.socket) -> Iterator[None]:
        with self._changed:
            if self._stopping.is_set():
                raise ConnectionAbortedError("The simulator is stopping.")
            self._sockets.add(connection)
        try:
            yield
        finally:
            with self._changed:
                self._sockets.discard(connection)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128  # connections that may wait to be accepted

    def __init__(self, address: tuple[str, int], simulator: Simulator) -> None:
        self.simulator = simulator
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.simulator._spawn(self.process_request_thread, request, client_address):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of a mistake of ours, not that of a client who went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # connections are kept alive
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with self.server.simulator._interruptible(self.connection):
            super().handle()

    def do_POST(self) -> None:
        """The provider's API, on every path."""
        simulator = self.server.simulator
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,7}", length) or int(length) > _MAX_BODY:
            self._refuse(Answer.error(4, f"Content-Length should be at most {_MAX_BODY}."))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return  # the client went away
        parsed = _parsed(body)
        with simulator._changed:  # who waits for the call finds its request too
            answer, content, call = simulator._decide(self.headers, parsed)
            self._record(answer, body, parsed)
        reported = call if simulator.auto_reports else None
        if reported and answer.report_first:
            simulator._report_all(reported, answer, 0.0)
        try:
            self._send(answer, content)
        finally:
            if reported and not answer.report_first:
                simulator._spawn(simulator._report_all, reported, answer, simulator.report_delay)

    def do_GET(self) -> None:
        """Not the provider's API: the view of the latest calls, for people and demos."""
        if self.command == "GET" and urlsplit(self.path).path == "/calls":
            self._send(Answer(), _dumps(self.server.simulator.recent_calls()))
        else:
            self._refuse(Answer(status=405, body=b""))

    do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def _refuse(self, answer: Answer) -> None:
        self.close_connection = True  # a body, if any, stays unread
        self._record(answer)
        self._send(answer, answer.body or b"")

    def _record(self, answer: Answer, body: bytes = b"", parsed: Any = None) -> None:
        status = None if answer.manner in (Manner.HANG, Manner.RESET) else answer.status
        simulator = self.server.simulator
        with simulator._changed:
            simulator._requests.append(
                ReceivedRequest(self.command, self.path, self.headers, body, parsed, status)
            )

    def _send(self, answer: Answer, content: bytes) -> None:
        head = self._head(answer, content)
        match answer.manner:
            case Manner.WHOLE:
                self.wfile.write(head + content)
            case Manner.DRIP_HEADERS:
                self._drip(head + content)
            case Manner.DRIP_BODY:
                self.wfile.write(head)
                self._drip(content)
            case Manner.HANG:
                self.close_connection = True
                while self.rfile.read1(1024):
                    pass
            case Manner.RESET:
                self.close_connection = True
                # Lingering for no time makes the close a reset; the reader holds the socket too.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.rfile.close()
                self.connection.close()

    def _drip(self, content: bytes) -> None:
        simulator = self.server.simulator
        for byte in content:
            if simulator._stopping.wait(simulator.drip):
                self.close_connection = True
                return
            self.wfile.write(bytes([byte]))

    def _head(self, answer: Answer, content: bytes) -> bytes:
        reasons = {status.value: status.phrase for status in HTTPStatus}
        lines = [
            f"HTTP/1.1 {answer.status} {reasons.get(answer.status, 'Unknown')}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(content)}",
        ]
        if answer.location:
            lines.append(f"Location: {answer.location}")
        if answer.status == 405:
            lines.append("Allow: POST")
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: what happened is in `Simulator.requests`."""


class _Refused(Exception):
    def __init__(self, code: int, extended: str = "") -> None:
        super().__init__(code, extended)
        self.answer = Answer.error(code, extended)


@dataclass(frozen=True)
class _Sending:
    """A valid request."""

    account: Account
    number: str
    text: str
    code: str
    id: str
    notify_url: str

    @classmethod
    def read(cls, accounts: Mapping[str, Account], headers: Message, content: Any) -> _Sending:
        """Check a request by the specification, "Параметры запроса", or raise _Refused."""
        if headers.get_content_type() != "application/json":
            raise _Refused(4, "Content-Type should be application/json.")
        if not isinstance(content, dict):
            raise _Refused(4, "The body should be a JSON object in UTF-8.")
        account = accounts.get(_required(content, "login", str))
        if account is None:
            raise _Refused(5)
        if _required(content, "password", str) != account.password:
            raise _Refused(6)
        address = _required(content, "destAddr", object)
        number = _e164(address) if isinstance(address, str) else None
        if number is None:
            raise _Refused(8)
        message = _required(content, "message", dict)
        if _required(message, "type", object, "message/") != "FLASHINGCALL":
            raise _Refused(9)
        data = _required(message, "data", dict, "message/")
        text = _required(data, "text", str, "message/data/")
        if len(text) > _MAX_TEXT:
            raise _Refused(4, f"FlashingCall text should have at most {_MAX_TEXT} characters.")
        runs = re.findall("[0-9]+", text)
        codes = [digits for digits in runs if len(digits) in account.code_lengths]
        if not codes:
            raise _Refused(4, "FlashingCall text should contain a 4-digit code.")
        ttl = data.get("ttl", 0)
        if type(ttl) is not int or not 0 <= ttl <= _MAX_TTL:  # a bool is an int by inheritance
            raise _Refused(11)
        id_ = _required(content, "id", str) if "id" in content else None
        if id_ == "":
            raise _Refused(4, "id should not be empty.")
        notify_url = _required(content, "notifyUrl", str) if "notifyUrl" in content else None
        if notify_url is not None and not 0 < len(notify_url) <= _MAX_NOTIFY_URL:
            raise _Refused(4, f"notifyUrl should have 1 to {_MAX_NOTIFY_URL} characters.")
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
    """Return a field of a JSON object, or raise _Refused where it is missing or of another kind."""
    if name not in parent:
        raise _Refused(4, f"{path}{name} is required.")
    value = parent[name]
    if not isinstance(value, kind):
        word = "an object" if kind is dict else "a string"
        raise _Refused(4, f"{path}{name} should be {word}.")
    return value


def _e164(address: str) -> str | None:
    """Return ``destAddr`` in E.164, None if it is no number (specification, "Параметры запроса").

    Eleven digits from 8 on, without a plus, are a Russian number as dialled at home.
    """
    if not re.fullmatch(r"\+?[0-9]+(-[0-9]+)*", address):
        return None
    digits = address.removeprefix("+").replace("-", "")
    if len(digits) == 11 and address.startswith("8"):
        digits = "7" + digits[1:]
    lengths = (11,) if digits.startswith("7") else range(7, 16)
    return f"+{digits}" if len(digits) in lengths and not digits.startswith("0") else None


def _is_http_url(url: str) -> bool:
    """Tell whether reports can be posted there."""
    try:
        parts = urlsplit(url)
        port = parts.port  # a ValueError where it is none
    except ValueError:
        return False
    return (
        url.isascii() and parts.scheme in ("http", "https") and bool(parts.hostname and port != 0)
    )


def _report_date(time: datetime) -> str:
    """Return a date as reports write it: an offset without a colon."""
    return time.astimezone(_MOSCOW).strftime("%Y-%m-%dT%H:%M:%S%z")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` to a command line."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8800, help="0 takes any free port")
    parser.add_argument("--login", default="demo", help="with -voice added: an account for voice")
    parser.add_argument("--password", default="demo", help="of both accounts")
    parser.add_argument("--six-digits", action="store_true", help="enable codes of six digits")
    parser.add_argument("--report-url", default="", help="post delivery reports there")
    parser.add_argument("--report-delay", type=float, default=3.0, help="seconds to the final one")


def serve(options: Mapping[str, Any]) -> None:
    """Serve until interrupted and print every call; `options` are those of `add_arguments`."""
    simulator = Simulator(
        [
            Account(options["login"], options["password"], six_digits=options["six_digits"]),
            Account(f"{options['login']}-voice", options["password"], voice=True),
        ],
        host=options["host"],
        port=options["port"],
        report_url=options["report_url"],
        auto_reports=True,
        report_delay=options["report_delay"],
    )
    with contextlib.suppress(KeyboardInterrupt), simulator:
        print(f"The provider's API: {simulator.url} (GET {simulator.url}calls)", flush=True)
        for n in count(1):
            call = simulator.wait_for_call(n, timeout=None)
            said = f'says "{call.spoken}"' if call.voice else "hangs up"
            print(f"{call.calling_number} calls {call.number} and {said}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve from the command line; `arguments` are those of the process if omitted."""
    parser = argparse.ArgumentParser(
        prog="python -m django_flashcall.simulator",
        description="The provider's FlashingCall API on a local port. Nobody is called.",
    )
    add_arguments(parser)
    serve(vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
