"""The simulated provider: it accepts requests, records calls and posts reports."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from types import EllipsisType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from .answers import STEERING, Answer, dumps
from .sendings import Account, PlacedCall, ReceivedRequest, Refused, Sending, e164
from .server import Server

logger = logging.getLogger("django_flashcall.simulator")

_DUPLICATES = timedelta(hours=24)  # how long duplicates are rejected (sibling HTTP API)
_REPORT_TIMEOUT = 5.0  # seconds to wait for the receiver of a report
_MOSCOW = timezone(timedelta(hours=3))  # the offset in the provider's examples


class Simulator:
    """The provider, as a context manager or between `start` and `stop`. It is thread-safe.

    Arguments: `accounts`, by default ``demo`` and, for voice codes, ``demo-voice``, both with the
    password ``demo``; `host` and `port` to listen on, port 0 for any free one; `report_url`, for
    reports of requests without ``notifyUrl``; `auto_reports`, whether reports are posted
    automatically: status 0 after the answer, the final one `report_delay` seconds later; `drip`,
    the seconds between two bytes of a slow answer; `clock`, which returns an aware time.
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
        # Random, so that reports of two runs do not match the same call in a database.
        self._mt_nums = count(10**9 + secrets.randbelow(8 * 10**9))
        self._changed = threading.Condition()  # guards the attributes below
        self._calls: list[PlacedCall] = []
        self._requests: list[ReceivedRequest] = []
        self._script: deque[Answer] = deque()
        self._turns: Counter[str] = Counter()
        self._statuses: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._server: Server | None = None

    # Lifecycle

    def start(self) -> Self:
        """Start serving in background threads; return the simulator."""
        if self._server is not None:
            raise RuntimeError("The simulator is running already.")
        self._stopping.clear()
        self._server = Server((self.host, self.port), self)
        self._spawn(self._server.serve_forever, 0.02)  # seconds until it notices `stop`
        return self

    def stop(self) -> None:
        """Abort everything in progress, wait for every thread and free the port."""
        if self._server is None:
            return
        with self._changed:
            self._stopping.set()  # no new threads and connections from now on
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
        """The URL of the provider's API; every path below it works too."""
        if self._server is None:
            raise RuntimeError("The simulator is not running.")
        return f"http://{self.host}:{self._server.server_address[1]}/"

    # Answers

    def script(self, *answers: Answer) -> None:
        """Give these answers to the next valid requests, in order, whatever their numbers.

        An invalid request gets its error and does not use up an answer.
        """
        with self._changed:
            self._script.extend(answers)

    def clear(self) -> None:
        """Delete calls, requests and scripted answers, and reset answers that are given once."""
        with self._changed:
            self._calls.clear()
            self._requests.clear()
            self._script.clear()
            self._turns.clear()
            self._statuses.clear()

    # Records

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
        """Return the newest call to a number (format of ``destAddr``), or raise LookupError."""
        wanted = e164(number)
        for call in reversed(self.calls):
            if call.number == wanted:
                return call
        raise LookupError(f"{number} was not called.")

    def wait_for_call(self, n: int = 1, timeout: float | None = 5.0) -> PlacedCall:
        """Return the `n`-th call (from 1) as soon as it is placed.

        Raise TimeoutError after `timeout` seconds; None waits forever.
        """
        with self._changed:
            if self._changed.wait_for(lambda: len(self._calls) >= n, timeout):
                return self._calls[n - 1]
        raise TimeoutError(f"Call {n} was not placed within {timeout} seconds.")

    def recent_calls(self, limit: int = 50) -> list[dict[str, object]]:
        """Return the latest calls for ``GET /calls``, newest first, ready for JSON.

        `status` is that of the last report, or None.
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
        `overrides` replace fields by their JSON names, and ``...`` omits a field. Return the HTTP
        status of the receiver's answer, or None if there is none.
        """
        url = call.notify_url or self.report_url
        if not is_http_url(url):
            raise ValueError("Reports need an http(s) notifyUrl or report_url.")
        done = report_date(self._clock()) if status == 2 else ""
        content: dict[str, object | EllipsisType] = {
            "id": call.id or ...,
            "mtNum": call.mt_num,
            "status": status,
            "type": "FLASHINGCALL",
            "doneDate": done,
            "submitDate": report_date(call.time),
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
        return self._post(url, dumps({k: v for k, v in content.items() if v is not ...}))

    def _post(self, url: str, body: bytes) -> int | None:
        parts = urlsplit(url)
        # urllib.request would follow redirects and use the environment's proxies.
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=_REPORT_TIMEOUT)
        except (HTTPException, ValueError):  # an invalid host or port
            return None
        target = parts._replace(scheme="", netloc="", path=parts.path or "/", fragment="").geturl()
        try:
            connection.connect()
            with self._interruptible(connection.sock):
                connection.request("POST", target, body, {"Content-Type": "application/json"})
                return connection.getresponse().status
        except (OSError, HTTPException, ValueError):  # no or an invalid answer, or an invalid host
            return None
        finally:
            connection.close()

    def _report_all(self, call: PlacedCall, answer: Answer, delay: float) -> None:
        if answer.outcome and is_http_url(call.notify_url or self.report_url):
            self.report(call, 0)
            if self._stopping.wait(delay):
                return
            status = self.report(call, *answer.outcome)
            if status != HTTPStatus.OK:
                # Not the address: its path contains the secret.
                said = f"status {status}" if status else "no response"
                logger.warning("The delivery report of call %s failed: %s.", call.mt_num, said)

    # Requests

    def _decide(self, headers: Message, content: Any) -> tuple[Answer, bytes, PlacedCall | None]:
        """Return the answer to a request, its body, and the new call, if any."""
        try:
            return self._accept(Sending.read(self.accounts, headers, content))
        except Refused as refused:
            return refused.answer, refused.answer.body or b"", None

    def _accept(self, sending: Sending) -> tuple[Answer, bytes, PlacedCall | None]:
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
        return answer, dumps(content), placed

    def _earlier(self, sending: Sending) -> PlacedCall | None:
        """Return the call that this request repeats, if any; refuse a duplicate with another id."""
        mine = [call for call in self._calls if call.login == sending.account.login]
        for call in mine:
            if sending.id and call.id == sending.id:
                return call
        for call in mine:
            same = (call.number, call.text) == (sending.number, sending.text)
            if same and self._clock() - call.time < _DUPLICATES:
                raise Refused(10)
        return None

    # Threads and connections, for `stop`

    def _spawn(self, target: Callable[..., None], *arguments: object) -> bool:
        """Run the target in a new thread, or return False if the simulator is stopping."""
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


def is_http_url(url: str) -> bool:
    """Return True if reports can be posted to the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises ValueError if it is invalid
    except ValueError:
        return False
    return (
        url.isascii() and parts.scheme in ("http", "https") and bool(parts.hostname and port != 0)
    )


def report_date(time: datetime) -> str:
    """Return a date in the format of reports: with an offset without a colon."""
    return time.astimezone(_MOSCOW).strftime("%Y-%m-%dT%H:%M:%S%z")
