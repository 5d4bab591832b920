"""The HTTP server of the simulated provider; it can also send faulty answers."""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from .answers import Answer, Manner, dumps, loads
from .sendings import PlacedCall, ReceivedRequest

_MAX_BODY = 1024 * 1024  # maximum size of a request body in bytes


class Provider(Protocol):
    """What the HTTP server needs of the simulated provider."""

    auto_reports: bool
    report_delay: float
    drip: float
    _changed: threading.Condition
    _requests: list[ReceivedRequest]
    _stopping: threading.Event

    def recent_calls(self) -> list[dict[str, object]]: ...

    def _decide(
        self, headers: Message, content: Any
    ) -> tuple[Answer, bytes, PlacedCall | None]: ...

    def _report_all(self, call: PlacedCall, answer: Answer, delay: float) -> None: ...

    def _spawn(self, target: Callable[..., None], *arguments: object) -> bool: ...

    def _interruptible(self, connection: socket.socket) -> AbstractContextManager[None]: ...


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128  # connections that may wait to be accepted

    def __init__(self, address: tuple[str, int], simulator: Provider) -> None:
        self.simulator = simulator
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.simulator._spawn(self.process_request_thread, request, client_address):
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of a bug, but not of a client that disconnected."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # connections are kept alive
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with self.server.simulator._interruptible(self.connection):
            super().handle()

    def do_POST(self) -> None:
        """Serve the provider's API, on every path."""
        simulator = self.server.simulator
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,7}", length) or int(length) > _MAX_BODY:
            self._refuse(Answer.error(4, f"Content-Length should be at most {_MAX_BODY}."))
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return  # the client disconnected
        parsed = loads(body)
        with simulator._changed:  # `wait_for_call` returns only after the request is recorded
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
        """Show the latest calls, for people and demos. This is not part of the provider's API."""
        if self.command == "GET" and self.path.partition("?")[0] == "/calls":
            self._send(Answer(), dumps(self.server.simulator.recent_calls()))
        else:
            self._refuse(Answer(status=405, body=b""))

    do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def _refuse(self, answer: Answer) -> None:
        self.close_connection = True  # the body, if any, is not read
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
                # SO_LINGER of 0 seconds makes `close` a reset. The reader holds the socket too.
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
        """Print nothing: see `Simulator.requests`."""
