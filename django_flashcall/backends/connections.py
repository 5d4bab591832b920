"""HTTP connections that respect a deadline, and know whether a request was sent.

The timeouts of `requests` apply to one socket operation: a server that sends one byte a second can
block its caller for hours. Here each operation gets the time left until the deadline of the
*exchange*: DNS lookup, each address, TLS, headers and body.
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
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

IDLE_SECONDS = 30.0
"""Maximum idle time of a connection that is used again: firewalls drop idle ones silently."""

MINIMUM_TIMEOUT = 0.001
"""Socket timeout in seconds after the deadline; zero would mean non-blocking."""


class Exchange:
    """One request and its response; connections use the current one of their thread.

    Args:
        deadline: the value of `time.monotonic` at which it is aborted.
        connect_timeout: seconds for connecting to one address.
    """

    _current: ContextVar[Exchange] = ContextVar("flashcall_exchange")
    _token: Token[Exchange]

    def __init__(self, deadline: float, connect_timeout: float) -> None:
        self.deadline = deadline
        self.connect_timeout = connect_timeout
        self.left = False
        """True if a byte of the request may have been sent; set before the first one."""

    def __enter__(self) -> Self:
        self._token = self._current.set(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self._current.reset(self._token)

    @classmethod
    def current(cls) -> Exchange:
        """Return the current exchange of this thread."""
        return cls._current.get()

    @property
    def seconds(self) -> float:
        """Seconds left, at least `MINIMUM_TIMEOUT`."""
        return max(MINIMUM_TIMEOUT, self.deadline - time.monotonic())

    @property
    def connect_seconds(self) -> float:
        """Seconds for one step of connecting."""
        return min(self.connect_timeout, self.seconds)


class _TimedReader(io.RawIOBase):
    """Reads from a socket until the deadline."""

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
        # For TLS through a proxy's tunnel, which does not read through this class.
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
        # urllib3 logs headers that it cannot parse, and the server may echo our secrets in them.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Connection(HTTPConnection):
    response_class = _Response
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        # urllib3 checks this for a connection from the pool, and reconnects if it is False.
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
        # Not an OSError: urllib3 would treat it as a response that came before the request.
        raise NewConnectionError(self, str(failure)) from failure

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        """Send the request. No earlier method does, and a proxy's CONNECT does not use it."""
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
            # Its connections have another class, which ignores the deadline.
            raise InvalidProxyURL("SOCKS proxies are not supported.")
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


class Session(requests.Session):
    """A connection pool for all threads. It stores no cookies and follows no redirects.

    The usual environment variables for proxies and CA certificates apply; ``~/.netrc`` does not.

    Args:
        pool_size: connections to keep open; more are created when needed and closed after use.
        verify: True, or the path of a bundle of CA certificates.
    """

    def __init__(self, pool_size: int, verify: bool | str) -> None:
        super().__init__()
        self._verify = verify
        self.auth = _no_auth
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without compression, a small response cannot expand in memory.
        self.headers.update({"User-Agent": "django-flashcall", "Accept-Encoding": "identity"})
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(pool_connections=1, pool_maxsize=pool_size))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: otherwise `requests` would read the whole body of a redirect."""

    def ask(self, request: requests.Request, exchange: Exchange) -> requests.Response:
        """Send a request within an exchange and return the response; its body is not read yet."""
        wire = self.prepare_request(request)
        # Pass `verify` here: REQUESTS_CA_BUNDLE would override the session's.
        settings = self.merge_environment_settings(wire.url, {}, True, self._verify, None)
        timeout = exchange.connect_seconds, exchange.seconds
        return self.send(wire, timeout=timeout, allow_redirects=False, **settings)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _addresses(host: str, port: int, seconds: float) -> list[tuple[str, int]]:
    """Resolve a host, in a thread because the system's resolver has no timeout.

    Raises:
        OSError: the host does not exist, or the time is up.
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
