"""`HTTPBackend` against servers that misbehave in every way a socket permits; nothing is mocked."""

import contextlib
import gc
import itertools
import re
import socket
import ssl
import threading
from concurrent.futures import Future

import pytest
import requests

from django_flashcall.backends import CallRequest, Receipt, connections, http
from django_flashcall.backends.http import ANSWER_BYTES, HTTPBackend, Verdict
from django_flashcall.exceptions import (
    Misconfigured,
    ProviderError,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.redaction import Secret

from .raw_server import WATCHDOG, Server, answer, answering, arrived, reset, sending, without_ports

CALL = CallRequest("+79161234567", Secret("7391"), "5f" * 16, "flash_call")

SOON = 0.3
"""Seconds of a backend's time-out against a server that would go on for ever."""

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTejxMK1MX5oxEzYA
nXZhrOM27pBBkhf5eBMY/KF+Y+ehRANCAASRJ7IyJmR00cDTv1fCcDy3nS3LAGlM
7nTTXo4mVk5Z8Lt1JWYC7Efhz2BjOI1KIHUa5AjOSehmAvLa4Cz1aBUJ
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpTCCAUugAwIBAgIUfQk/tavWv86e2fmBWkPLxwarN6YwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAx
MDAwMDAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASRJ7IyJmR00cDTv1fCcDy3nS3LAGlM7nTTXo4mVk5Z8Lt1JWYC7Efh
z2BjOI1KIHUa5AjOSehmAvLa4Cz1aBUJo3kwdzAUBgNVHREEDTALgglsb2NhbGhv
c3QwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAoQwHQYDVR0OBBYEFAEr
LwYBB/c1ZieJ9fTD/rn0OEPqMB8GA1UdIwQYMBaAFAErLwYBB/c1ZieJ9fTD/rn0
OEPqMAoGCCqGSM49BAMCA0gAMEUCIDPqoppB8JySs2JGqjBnx3bJMWehfhbAFZIZ
o/juX6QGAiEA9gKKSwGnOAjY4jy7rdKva2QmkXlI4OzwBbxg+Y2KiY0=
-----END CERTIFICATE-----
"""
"""Self-signed, for localhost alone, and made for this file."""


class Form(HTTPBackend):
    """A provider of another shape than FlashingCall: forms instead of JSON, statuses for errors."""

    def wire_request(self, call):
        data = {"to": call.phone, "digits": call.code, "ref": call.reference}
        return requests.Request("POST", self.url, data=data)

    def judge(self, answer, call, *, repeated):
        match answer.status:
            case 200 if answer.body is not None:
                return Verdict(Receipt(f"{answer.body.decode()}{'-again' * repeated}"))
            case 503:
                return Verdict(TemporaryFailure("busy", http_status=503), ask_again=True)
            case 500:
                failure = TemporaryFailure("broken", may_have_been_placed=True)
                return Verdict(failure, ask_again=self.duplicate_control)
            case 403:
                return Verdict(Misconfigured("forbidden"))
        return Verdict(UnknownOutcome("no sense", http_status=answer.status))


def outcome(backend, call=CALL):
    """Return what `place_call` returned or raised; fail if it does neither."""
    future = Future()

    def place():
        try:
            future.set_result(backend.place_call(call))
        except ProviderError as error:
            future.set_result(error)
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=place, daemon=True).start()
    return future.result(WATCHDOG)


def certainly_not_placed(error):
    return isinstance(error, TemporaryFailure) and not error.may_have_been_placed


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between attempts, which nobody waits for."""
    seconds = []
    monkeypatch.setattr(http, "_sleep", seconds.append)
    return seconds


@pytest.fixture
def backend():
    """Make backends; they are closed at the end."""
    made = []

    def make(url, **options):
        made.append(Form("default", url=url, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def addresses(monkeypatch):
    """Make the name ``provider.test`` known, with any addresses."""
    resolve = socket.getaddrinfo

    def know(*found):
        def look_up(host, port, *args, **kwargs):
            if host != "provider.test":
                return resolve(host, port, *args, **kwargs)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return know


@pytest.fixture
def deaf():
    """A port of a host that lets every connection wait: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "localhost.pem"
    path.write_text(CERTIFICATE)
    return path


def with_tls(certificate, behave):
    """Return a behaviour over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave_over_tls(server, connection):
        with context.wrap_socket(connection, server_side=True) as wrapped:
            server.open.append(wrapped)
            behave(server, wrapped)

    return behave_over_tls


class TestConnections:
    def test_calls_share_one_connection(self, backend):
        with Server(answering(answer())) as server:
            subject = backend(server.url)
            assert [outcome(subject) for _ in range(5)] == [Receipt("42")] * 5
            assert len(server.requests) == 5
            assert server.connections == 1

    @pytest.mark.parametrize("status", [204, 302, 403, 500])
    def test_errors_leave_the_connection_usable(self, backend, status):
        with Server(answering(answer(b"", status), answer())) as server:
            subject = backend(server.url)
            assert isinstance(outcome(subject), ProviderError)
            assert outcome(subject) == Receipt("42")
            assert server.connections == 1

    def test_a_connection_closed_between_calls_is_replaced(self, backend):
        closed = threading.Event()

        def behave(server, connection):
            server.read(connection)
            connection.sendall(answer())
            connection.shutdown(socket.SHUT_RDWR)
            closed.set()

        with Server(behave) as server:
            subject = backend(server.url)
            for _ in range(3):
                assert outcome(subject) == Receipt("42")
                assert closed.wait(WATCHDOG)
                closed.clear()
            assert server.connections == 3

    def test_a_connection_long_unused_is_replaced(self, backend, monkeypatch):
        monkeypatch.setattr(connections, "IDLE_SECONDS", 0)
        with Server(answering(answer())) as server:
            subject = backend(server.url)
            assert [outcome(subject), outcome(subject)] == [Receipt("42")] * 2
            assert server.connections == 2

    def test_fifty_threads_at_once(self, backend):
        def behave(server, connection):
            while request := server.read(connection):
                connection.sendall(answer(re.search(rb"ref=(\w+)", request)[1]))

        references = [f"{n:032}" for n in range(50)]
        found = {}
        together = threading.Barrier(50)
        with Server(behave) as server:
            subject = backend(server.url, pool_size=50)

            def place(reference):
                together.wait(WATCHDOG)
                call = CallRequest("+79161234567", Secret("7391"), reference, "flash_call")
                found[reference] = subject.place_call(call).provider_id

            for _ in range(2):
                threads = [threading.Thread(target=place, args=(each,)) for each in references]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(WATCHDOG)
                # Nobody got somebody else's answer.
                assert found == {each: each for each in references}
                found.clear()
            assert len(server.requests) == 100
            assert server.connections <= 50

    def test_no_cookie_comes_back(self, backend):
        with Server(answering(answer(headers=["Set-Cookie: session=1; Path=/"]))) as server:
            subject = backend(server.url)
            outcome(subject)
            outcome(subject)
            assert b"cookie" not in server.requests[1].lower()

    def test_netrc_is_not_used(self, backend, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("default login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with Server(answering(answer())) as server:
            outcome(backend(server.url))
            assert b"authorization" not in server.requests[0].lower()

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed(self, backend, status):
        with Server(answering(answer())) as target:
            redirect = answer(b"", status, [f"Location: {target.url}"])
            with Server(answering(redirect)) as server:
                error = outcome(backend(server.url))
                assert isinstance(error, UnknownOutcome)
                assert error.http_status == status
            assert target.connections == 0

    def test_closing_gives_connections_back(self, backend):
        gone = threading.Event()

        def behave(server, connection):
            while server.read(connection):
                connection.sendall(answer())
            gone.set()

        with Server(behave) as server:
            subject = backend(server.url)
            outcome(subject)
            subject.close()
            assert gone.wait(WATCHDOG)

    @pytest.mark.filterwarnings("error")
    def test_no_socket_is_left_open(self, backend):
        with Server(sending(b"HTTP/1.1 200 OK\r\n", forever=b"x")) as server:
            outcome(backend(server.url, timeout=SOON))
            gc.collect()

    def test_the_repr_shows_alias_and_host_alone(self, backend):
        subject = backend("https://provider.example/send?key=s3cret")
        assert repr(subject) == "<Form 'default' at provider.example>"


class TestNeverLeft:
    """No connection: certainly no call, and asking again is safe."""

    def test_refused(self, backend, pauses):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        error = outcome(backend(f"http://127.0.0.1:{port}/"))
        assert certainly_not_placed(error)
        assert len(pauses) == 2

    def test_a_host_without_an_address(self, backend, pauses, addresses):
        addresses()
        assert certainly_not_placed(outcome(backend("http://provider.test/")))
        assert len(pauses) == 2

    def test_a_resolver_that_hangs(self, backend, monkeypatch):
        released = threading.Event()

        def look_up(*args, **kwargs):
            released.wait(WATCHDOG)
            raise socket.gaierror

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert certainly_not_placed(outcome(backend("http://provider.test/", timeout=SOON)))
        released.set()

    def test_connecting_takes_too_long(self, backend, deaf):
        error = outcome(backend(f"http://127.0.0.1:{deaf}/", connect_timeout=0.1, retries=0))
        assert certainly_not_placed(error)

    def test_many_addresses_share_the_time(self, backend, deaf, addresses):
        addresses(*["127.0.0.1"] * 200)
        error = outcome(backend(f"http://provider.test:{deaf}/", timeout=SOON))
        assert certainly_not_placed(error)

    def test_the_next_address_is_tried(self, backend, addresses):
        addresses("127.0.0.2", "127.0.0.1")
        with Server(answering(answer())) as server:
            assert outcome(backend(f"http://provider.test:{server.port}/")) == Receipt("42")

    def test_a_host_that_does_not_speak_tls(self, backend, pauses):
        def behave(server, connection):
            connection.recv(65536)
            connection.sendall(answer(status=400))

        with Server(behave) as server:
            error = outcome(backend(f"https://127.0.0.1:{server.port}/"))
            assert certainly_not_placed(error)
            assert server.connections == 3

    def test_a_tls_handshake_that_hangs(self, backend):
        with Server(lambda server, connection: server.stop.wait(WATCHDOG)) as server:
            error = outcome(backend(f"https://127.0.0.1:{server.port}/", timeout=SOON))
            assert certainly_not_placed(error)

    @pytest.mark.parametrize("url", ["http://", "//a", "ftp://a/", f"http://{'x' * 64}.test/"])
    def test_an_url_that_is_none_is_the_operators(self, backend, pauses, url):
        assert isinstance(outcome(backend(url)), Misconfigured)
        assert pauses == []


class TestTLS:
    def url(self, server):
        return f"https://localhost:{server.port}/"

    def test_an_unknown_certificate_is_the_operators(self, backend, certificate, pauses):
        with Server(with_tls(certificate, answering(answer()))) as server:
            error = outcome(backend(self.url(server)))
            assert isinstance(error, Misconfigured)
            assert not error.may_have_been_placed
            assert "certificate" in error.description
            assert server.requests == []
            assert pauses == []

    def test_a_certificate_of_the_bundle(self, backend, certificate, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/another")
        with Server(with_tls(certificate, answering(answer()))) as server:
            subject = backend(self.url(server), verify=str(certificate))
            assert [outcome(subject) for _ in range(3)] == [Receipt("42")] * 3
            assert server.connections == 1

    def test_the_bundle_of_the_environment(self, backend, certificate, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with Server(with_tls(certificate, answering(answer()))) as server:
            assert outcome(backend(self.url(server))) == Receipt("42")

    def test_a_certificate_for_another_host(self, backend, certificate):
        with Server(with_tls(certificate, answering(answer()))) as server:
            error = outcome(backend(f"https://127.0.0.1:{server.port}/", verify=str(certificate)))
            assert isinstance(error, Misconfigured)
            assert server.requests == []

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
    def test_a_drip(self, backend, certificate, start):
        with Server(with_tls(certificate, sending(start, forever=b"H"))) as server:
            error = outcome(backend(self.url(server), verify=str(certificate), timeout=SOON))
            assert isinstance(error, UnknownOutcome)


class TestProxies:
    def test_a_plain_request(self, backend, monkeypatch):
        with Server(answering(answer())) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert outcome(backend("http://provider.test/send")) == Receipt("42")
            assert proxy.requests[0].startswith(b"POST http://provider.test/send ")

    @pytest.mark.parametrize("forever", [b"HTTP/1.1 200 OK\r\n", b"x"])
    def test_a_plain_request_that_drips(self, backend, monkeypatch, forever):
        with Server(sending(forever=forever)) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            error = outcome(backend("http://provider.test/send", timeout=SOON))
            assert isinstance(error, UnknownOutcome)

    def test_a_tunnel(self, backend, certificate, monkeypatch):
        secure = with_tls(certificate, answering(answer()))

        def behave(server, connection):
            server.read(connection)
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            secure(server, connection)

        with Server(behave) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            subject = backend("https://localhost:443/", verify=str(certificate))
            assert [outcome(subject), outcome(subject)] == [Receipt("42")] * 2
            assert proxy.requests[0].startswith(b"CONNECT localhost:443 ")
            assert b"7391" not in proxy.requests[0]
            assert proxy.connections == 1

    @pytest.mark.parametrize(
        "behave",
        [
            sending(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            sending(),
            sending(forever=b"x"),
            sending(b"HTTP/1.1 200 Connected\r\n\r\n"),
            lambda server, connection: reset(connection),
        ],
        ids=["refuses", "closes", "drips", "closes after it", "resets"],
    )
    def test_a_tunnel_that_is_not_dug_carried_no_call(self, backend, monkeypatch, behave):
        with Server(behave) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            error = outcome(backend("https://provider.test/", timeout=SOON))
            assert certainly_not_placed(error)

    def test_tls_that_hangs_in_the_tunnel(self, backend, monkeypatch):
        def behave(server, connection):
            server.read(connection)
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            server.stop.wait(WATCHDOG)

        with Server(behave) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            # With time left for another attempt: TLS has the time of connecting, no more.
            subject = backend("https://provider.test/", connect_timeout=0.1, retries=1)
            assert certainly_not_placed(outcome(subject))
            assert proxy.connections == 2

    def test_a_socks_proxy_is_the_operators(self, backend, monkeypatch):
        monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
        error = outcome(backend("http://provider.test/"))
        assert isinstance(error, Misconfigured)
        assert "InvalidProxyURL" in error.description

    def test_a_proxy_that_makes_no_sense_is_not(self, backend, monkeypatch):
        with Server(sending(b"HTTP/1.1 abc\r\n\r\n")) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            error = outcome(backend("https://provider.test/", retries=0))
            assert certainly_not_placed(error)


OK = b"HTTP/1.1 200 OK\r\n"

FAULTS = {
    "closes without an answer": sending(),
    "closes within the status line": sending(b"HTTP/1.1 2"),
    "closes within the body": sending(OK, b"Content-Length: 20\r\n\r\n", b"0123456789"),
    "closes within a chunk": sending(OK, b"Transfer-Encoding: chunked\r\n\r\n", b"ff\r\n4"),
    "garbage for a status line": sending(b"\x00\x01\x02\xff\r\n\r\n"),
    "another protocol": sending(b"220 mail.example ESMTP\r\n"),
    "garbage for a chunk": sending(OK, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n42\r\n"),
    "too many headers": sending(OK, b"X: y\r\n" * 1000, b"\r\n42"),
    "an endless header": sending(OK, b"X: ", b"y" * 100_000, b"\r\n\r\n42"),
    "answers nothing": sending(forever=b""),
    "headers that drip": sending(forever=b"H"),
    "headers that never end": sending(OK, forever=b"X: y\r\n"),
    "a body that drips": sending(OK, b"Content-Length: 9999\r\n\r\n", forever=b" "),
    "a body without a length that drips": sending(OK, b"\r\n", forever=b" "),
    "chunks that drip": sending(OK, b"Transfer-Encoding: chunked\r\n\r\n", forever=b"1\r\n \r\n"),
    "an interim answer for ever": sending(forever=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a flood": sending(forever=b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, seconds=0),
    "resets": lambda server, connection: (server.read(connection), reset(connection)),
    "resets before it reads": lambda server, connection: (arrived(connection), reset(connection)),
}


class TestLost:
    """The request left, or may have: nobody knows, so nobody asks again."""

    @pytest.mark.parametrize("fault", FAULTS)
    def test_the_outcome_is_unknown(self, backend, pauses, fault):
        with Server(FAULTS[fault]) as server:
            error = outcome(backend(server.url, timeout=SOON))
            assert isinstance(error, UnknownOutcome)
            assert error.may_have_been_placed
            assert server.connections == 1
            assert pauses == []

    @pytest.mark.parametrize("headers", [["Content-Length: nonsense"], ["Content-Length: -5"]])
    def test_a_length_that_is_none_does_not_matter(self, backend, headers):
        content = "\r\n".join(["HTTP/1.1 200 OK", *headers, "", "42"]).encode()
        with Server(sending(content)) as server:
            assert outcome(backend(server.url)) == Receipt("42")

    def test_a_known_status_stands_without_its_body(self, backend):
        with Server(
            sending(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n", forever=b"")
        ) as server:
            assert isinstance(outcome(backend(server.url, timeout=SOON)), Misconfigured)

    def test_a_slow_answer_is_no_slow_connection(self, backend):
        def behave(server, connection):
            server.read(connection)
            for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\n", b"4", b"2"):
                server.stop.wait(0.1)
                connection.sendall(piece)

        with Server(behave) as server:
            assert outcome(backend(server.url, connect_timeout=0.05)) == Receipt("42")

    def test_it_is_asked_again_where_the_provider_drops_repeats(self, backend, pauses):
        turns = itertools.count()

        def behave(server, connection):
            server.read(connection)
            if next(turns) == 0:
                reset(connection)
            else:
                connection.sendall(answer())

        with Server(behave) as server:
            subject = backend(server.url, duplicate_control=True)
            assert outcome(subject) == Receipt("42-again")
            assert server.requests[0] == server.requests[1]


class TestLength:
    @pytest.mark.parametrize("length", [0, 1, ANSWER_BYTES])
    @pytest.mark.parametrize("framing", ["length", "chunks", "none"])
    def test_answers_up_to_the_limit_are_read(self, backend, length, framing):
        body = b"x" * length
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (length, body) if body else b"0\r\n\r\n"
        content = {
            "length": answer(body),
            "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
            "none": OK + b"\r\n" + body,
        }[framing]
        with Server(sending(content)) as server:
            assert outcome(backend(server.url)) == Receipt("x" * length)

    @pytest.mark.parametrize(
        "start",
        [
            OK + b"Content-Length: %d\r\n\r\n" % (ANSWER_BYTES + 1),
            OK + b"Content-Length: %d\r\n\r\n" % 10**18,
            OK + b"\r\n" + b"x" * (ANSWER_BYTES + 1),
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b"x" * (ANSWER_BYTES + 1),
            b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n" + b"x" * (ANSWER_BYTES + 1),
        ],
        ids=["announced", "announced without end", "until the end", "chunked", "redirect"],
    )
    def test_longer_ones_are_cut_off(self, backend, start):
        hung_up = threading.Event()

        def behave(server, connection):
            server.read(connection)
            try:
                connection.sendall(start)
                server.until_stopped(connection, itertools.repeat(b"x" * 1000))
            except OSError:
                hung_up.set()

        with Server(behave) as server:
            # With the default time-out: it is the length, not the time, that ends it.
            error = outcome(backend(server.url))
            assert isinstance(error, UnknownOutcome)
            assert error.http_status in (200, 302)
            assert hung_up.wait(WATCHDOG)

    @pytest.mark.parametrize("headers", [b"Echo 7391 of it\r\nX: 7391", b" 7391\r\nX: 7391"])
    def test_headers_that_make_no_sense_are_not_logged(self, backend, caplog, headers):
        caplog.set_level(0)
        with Server(sending(OK, headers, b"\r\n\r\n42")) as server:
            assert outcome(backend(server.url)) == Receipt("42")
        assert "7391" not in without_ports(caplog.text)

    def test_nothing_is_unpacked(self, backend):
        with Server(answering(answer(b"packed", headers=["Content-Encoding: gzip"]))) as server:
            assert outcome(backend(server.url)) == Receipt("packed")
            assert b"Accept-Encoding: identity\r\n" in server.requests[0]


class TestRetries:
    def test_until_it_works(self, backend, pauses):
        with Server(answering(answer(status=503), answer(status=503), answer())) as server:
            assert outcome(backend(server.url)) == Receipt("42-again")
            first, second, third = server.requests
            assert first == second == third
            assert server.connections == 1
        assert len(pauses) == 2
        assert 0 <= pauses[0] <= http.BACKOFF
        assert 0 <= pauses[1] <= http.BACKOFF * 2

    @pytest.mark.parametrize("retries", [0, 1, 4])
    def test_no_more_than_asked_for(self, backend, pauses, retries):
        with Server(answering(answer(status=503))) as server:
            assert certainly_not_placed(outcome(backend(server.url, retries=retries)))
            assert len(server.requests) == retries + 1

    def test_none_where_the_time_is_short(self, backend, pauses):
        with Server(answering(answer(status=503))) as server:
            subject = backend(server.url, timeout=http.USEFUL_SECONDS)
            assert certainly_not_placed(outcome(subject))
            assert len(server.requests) == 1

    def test_none_after_what_is_final(self, backend, pauses):
        with Server(answering(answer(status=403))) as server:
            assert isinstance(outcome(backend(server.url)), Misconfigured)
            assert len(server.requests) == 1

    def test_nothing_was_repeated_where_nothing_had_left(self, backend, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with contextlib.ExitStack() as stack:

            def open_the_server(seconds):
                stack.enter_context(Server(answering(answer()), port))

            monkeypatch.setattr(http, "_sleep", open_the_server)
            assert outcome(backend(f"http://127.0.0.1:{port}/")) == Receipt("42")

    @pytest.mark.parametrize("later", [403, 503])
    def test_a_rejection_does_not_take_back_what_may_have_been_placed(self, backend, pauses, later):
        with Server(answering(answer(status=500), answer(status=later))) as server:
            error = outcome(backend(server.url, duplicate_control=True))
            assert error.description == "broken"
            assert error.may_have_been_placed

    def test_a_refused_connection_does_not_either(self, backend, pauses):
        listener = socket.create_server(("127.0.0.1", 0))

        def serve_once():
            connection, _ = listener.accept()
            listener.close()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=serve_once)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        error = outcome(backend(url, duplicate_control=True))
        thread.join(WATCHDOG)
        assert isinstance(error, UnknownOutcome)
        assert len(pauses) == 2
