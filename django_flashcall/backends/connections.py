"""HTTP connections that keep to a deadline, and know whether a request has left.

The time-outs of `requests` are those of one socket operation: a server that sends a byte a second
holds its caller for hours. Here each operation gets what is left until the deadline of the
*exchange*: looking the name up, each address tried, TLS, headers and body.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar, Token
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

IDLE_SECONDS = 30.0
"""A connection unused for longer is not used again: firewalls forget it without telling anyone."""

MOMENT = 0.001
"""Seconds of a socket's time-out once the deadline has passed; zero would mean non-blocking."""


class Exchange:
    """One request and its answer; the connections find the current one of their thread.

    Args:
        deadline: the value of `time.monotonic` at which it is cut off, wherever it is.
        connect_timeout: seconds for connecting to one address.
    """

    _current: ContextVar[Exchange] = ContextVar("flashcall_exchange")
    _token: Token[Exchange]

    def __init__(self, deadline: float, connect_timeout: float) -> None:
        self.deadline = deadline
        self.connect_timeout = connect_timeout
        self.left = False
        """A byte of the request may have left; set before the first one is sent."""

    def __enter__(self) -> Self:
        self._token = self._current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._current.reset(self._token)

    @classmethod
    def current(cls) -> Exchange:
        """Return the exchange of this thread."""
        return cls._current.get()

    @property
    def seconds(self) -> float:
        """Seconds that are left, never less than a `MOMENT`."""
        return max(MOMENT, self.deadline - time.monotonic())

    @property
    def connect_seconds(self) -> float:
        """Seconds for one step of connecting."""
        return min(self.connect_timeout, self.seconds)


class _TimedReader(io.RawIOBase):
    """What a socket receives, until the deadline."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        exchange = Exchange.current()
        if time.monotonic() > exchange.deadline:
            raise TimeoutError("The time for an answer is up.")
        self._sock.settimeout(exchange.seconds)
        count: int | None = self._raw.readinto(buffer)
        # For what follows without a read of ours: TLS through the tunnel of a proxy.
        self._sock.settimeout(exchange.connect_seconds)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        # urllib3 logs headers that it cannot parse, and a server may echo our secrets in them.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Connection(HTTPConnection):
    response_class = _Response
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        # urllib3 asks this of a connection from the pool, and connects anew where it is not.
        return super().is_connected and time.monotonic() - self._used_at < IDLE_SECONDS

    def _new_conn(self) -> socket.socket:
        exchange = Exchange.current()
        failure: Exception = OSError("The host has no address.")
        try:
            for address in _addresses(self._dns_host, self.port, exchange.seconds):
                try:
                    sock = create_connection(
                        address, exchange.connect_seconds, socket_options=self.socket_options
                    )
                except OSError as error:
                    failure = error
                else:
                    sock.settimeout(exchange.connect_seconds)  # for TLS
                    return sock
        except (OSError, UnicodeError) as error:
            failure = error
        # Not the OSError itself: urllib3 takes one for an answer that came before the request.
        raise NewConnectionError(self, str(failure)) from failure

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        """Send the request; the first method that does, and not used for a proxy's CONNECT."""
        if self.sock is None:
            self.connect()
        exchange = Exchange.current()
        self.sock.settimeout(exchange.seconds)
        self._used_at = time.monotonic()
        exchange.left = True
        super().endheaders(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            # Its connections are of another class, and would not keep to the deadline.
            raise InvalidProxyURL("SOCKS proxies are not supported.")
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


class Session(requests.Session):
    """A pool of connections for all threads; keeps no cookies and follows no redirects.

    The usual environment variables for proxies and CA certificates apply, ``~/.netrc`` does not.

    Args:
        pool_size: connections kept open; more are made when needed and not kept.
        verify: True, or the path of a bundle of CA certificates.
    """

    def __init__(self, pool_size: int, verify: bool | str) -> None:
        super().__init__()
        self._verify = verify
        self.auth = _no_auth
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # An answer that is not compressed cannot burst.
        self.headers.update({"User-Agent": "django-flashcall", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(pool_connections=1, pool_maxsize=pool_size))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Say that there is none: `requests` would read the body of a redirect to its end."""

    def ask(self, request: requests.Request, exchange: Exchange) -> requests.Response:
        """Send a request and return the answer, its body still to be read, within an exchange."""
        wire = self.prepare_request(request)
        # `verify` is given here, as REQUESTS_CA_BUNDLE would override that of the session.
        settings = self.merge_environment_settings(wire.url, {}, True, self._verify, None)
        timeout = exchange.connect_seconds, exchange.seconds
        return self.send(wire, timeout=timeout, allow_redirects=False, **settings)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _addresses(host: str, port: int, seconds: float) -> list[tuple[str, int]]:
    """Look a host up. In a thread, as the system's resolver knows no deadline.

    Raises:
        OSError: there is no such host, or the time is up.
    """
    found: Future[list[tuple[str, int]]] = Future()

    def look_up() -> None:
        try:
            family = allowed_gai_family()
            known = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)
            found.set_result([(str(address[0]), port) for *_, address in known])
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=look_up, name="flashcall-lookup", daemon=True).start()
    return found.result(seconds)
