"""A server that says any bytes at all, for faults that no HTTP library would commit."""

import contextlib
import itertools
import re
import socket
import struct
import threading

WATCHDOG = 30
"""Seconds after which a test that hangs has failed."""


class Server:
    """Leaves each connection to ``behave(server, connection)``, in a thread of its own."""

    def __init__(self, behave, port=0):
        self.behave = behave
        self.requests = []
        self.connections = 0
        self.stop = threading.Event()
        self.open = []
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/send"

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *exception):
        self.stop.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._accepting.join(WATCHDOG)
        self._listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WATCHDOG)

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            if self.stop.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self.open.append(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection:
            connection.settimeout(WATCHDOG)
            with contextlib.suppress(OSError):  # the client went away, as it should
                self.behave(self, connection)

    def read(self, connection):
        """Return the next request of a connection, None where the client has closed it."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (received := connection.recv(65536)):
                return None
            data += received
        length = re.search(rb"(?i)content-length: *(\d+)", data)
        end = data.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
        while len(data) < end:
            data += connection.recv(65536)
        self.requests.append(data)
        return data

    def until_stopped(self, connection, pieces, seconds=0.02):
        """Send pieces, one after the other, until the test or the client ends it."""
        for piece in pieces:
            if self.stop.wait(seconds):
                return
            connection.sendall(piece)
        self.stop.wait(WATCHDOG)


def answer(body=b"42", status=200, headers=()):
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(*answers):
    """Return a behaviour: one answer after the other, over all connections; the last one stays."""
    turns = itertools.chain(answers, itertools.repeat(answers[-1]))

    def behave(server, connection):
        while server.read(connection):
            connection.sendall(next(turns))

    return behave


def sending(*pieces, forever=None, seconds=0.02):
    """Return a behaviour: these pieces, then one for ever or the end of the connection."""

    def behave(server, connection):
        server.read(connection)
        connection.sendall(b"".join(pieces))
        if forever is not None:
            server.until_stopped(connection, itertools.repeat(forever), seconds)

    return behave


def arrived(connection):
    """Wait until something of the request is there, and leave it unread."""
    connection.recv(1, socket.MSG_PEEK)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def without_ports(text: str) -> str:
    """Remove the ports of local addresses, which can contain the digits of a code by chance."""
    return re.sub(r"(127\.0\.0\.1|localhost):\d+", r"\1", text)
