"""The simulator over real sockets; no Django is needed to run these."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from django_flashcall import simulator as module
from django_flashcall.simulator import ERRORS, STEERING, Account, Answer, Manner, Simulator

WAIT = 30  # seconds until a test that would hang fails instead
NUMBER = "79161234567"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    accounts = [
        Account("demo", "secret"),
        Account("voice", "secret", voice=True, six_digits=True),
        Account("six", "secret", six_digits=True),
        Account("careful", "secret", duplicate_control=True),
    ]
    with Simulator(accounts, drip=0) as simulator:
        yield simulator


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy of the environment
        yield session


def body(number: object = NUMBER, **changes: Any) -> dict[str, Any]:
    """Return a request; `changes` replace fields of any level by name, ``...`` leaves them out."""
    data = {"text": "1234", "ttl": 1}
    message = {"type": "FLASHINGCALL", "data": data}
    content = {"login": "demo", "password": "secret", "destAddr": number, "message": message}
    for name, value in changes.items():
        parent = next((level for level in (data, message) if name in level), content)
        if value is ...:
            del parent[name]
        else:
            parent[name] = value
    return content


def send(
    simulator: Simulator, session: requests.Session, *args: Any, **changes: Any
) -> requests.Response:
    return session.post(
        simulator.url, json=body(*args, **changes), timeout=WAIT, allow_redirects=False
    )


def assert_error(response: requests.Response, code: int, extended: str | None = None) -> None:
    description, status = ERRORS[code]
    expected: dict[str, Any] = {"error": {"code": code, "description": description}}
    if extended is not None:
        expected["extendedDescription"] = extended
    assert (response.status_code, response.json()) == (status, expected)


# Success


def test_success(simulator: Simulator, session: requests.Session) -> None:
    response = send(simulator, session, id="8770599")
    call = simulator.last_call("8-916-123-45-67")
    assert response.status_code == 200
    assert response.json() == {"mtNum": call.mt_num, "id": "8770599"}
    assert re.fullmatch("[0-9]+", call.mt_num)
    assert (call.number, call.code, call.text) == ("+79161234567", "1234", "1234")
    assert call.calling_number == "+74951231234"
    assert (call.voice, call.spoken) == (False, "")
    assert call.time.tzinfo is not None
    assert simulator.calls == [call]


def test_id_comes_back_only_if_sent(simulator: Simulator, session: requests.Session) -> None:
    assert list(send(simulator, session).json()) == ["mtNum"]


def test_mt_nums_differ(simulator: Simulator, session: requests.Session) -> None:
    assert send(simulator, session).json() != send(simulator, session).json()


def test_any_path(simulator: Simulator, session: requests.Session) -> None:
    for path in ("", "send", "a/b?c=d", "calls"):
        assert session.post(simulator.url + path, json=body(), timeout=WAIT).status_code == 200


def test_voice(simulator: Simulator, session: requests.Session) -> None:
    send(simulator, session, login="voice")
    call = simulator.last_call(NUMBER)
    assert call.voice
    assert call.spoken == "Your code is 1 2 3 4."
    assert not call.calling_number.endswith(call.code)


def test_six_digits(simulator: Simulator, session: requests.Session) -> None:
    send(simulator, session, login="six", text="123456")
    assert simulator.last_call(NUMBER).calling_number == "+74951123456"
    send(simulator, session, login="six", text="0042")
    assert simulator.last_call(NUMBER).code == "0042"


@pytest.mark.parametrize(
    "number", ["72101234567", "+72101234567", "8-210-123-45-67", "82101234567"]
)
def test_forms_of_the_specification(
    simulator: Simulator, session: requests.Session, number: str
) -> None:
    assert send(simulator, session, number).status_code == 200
    assert simulator.calls[0].number == "+72101234567"


@pytest.mark.parametrize(
    ("number", "e164"),
    [("+493012345678", "+493012345678"), ("12025550123", "+12025550123"), ("+84912345678",) * 2],
)
def test_other_countries(
    simulator: Simulator, session: requests.Session, number: str, e164: str
) -> None:
    assert send(simulator, session, number).status_code == 200
    assert simulator.calls[0].number == e164


@pytest.mark.parametrize("ttl", [0, 1, 5, ...])
def test_ttl(simulator: Simulator, session: requests.Session, ttl: object) -> None:
    assert send(simulator, session, ttl=ttl).status_code == 200


def test_connection_is_kept_alive(simulator: Simulator) -> None:
    host, port = simulator.url.removeprefix("http://").removesuffix("/").split(":")
    content = json.dumps(body()).encode()
    request = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )
    with socket.create_connection((host, int(port)), timeout=WAIT) as connection:
        for n in (1, 2):
            connection.sendall(request)
            assert connection.recv(12) == b"HTTP/1.1 200"
            simulator.wait_for_call(n, WAIT)
            rest = b""
            while not rest.endswith(b"}"):
                rest += connection.recv(1024)


# Requests that the provider refuses


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"null", b'{"login": "\xff"}', b"[" * 100_000, b"\xef\xbb\xbf{}"],
)
def test_body_is_no_json_object(
    simulator: Simulator, session: requests.Session, content: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    response = session.post(simulator.url, data=content, headers=headers, timeout=WAIT)
    assert_error(response, 4, "The body should be a JSON object in UTF-8.")


def test_content_type(simulator: Simulator, session: requests.Session) -> None:
    response = session.post(simulator.url, data=json.dumps(body()), timeout=WAIT)
    assert_error(response, 4, "Content-Type should be application/json.")


def test_content_length(simulator: Simulator, session: requests.Session) -> None:
    headers = {"Content-Type": "application/json"}
    chunked = session.post(simulator.url, data=iter([b"{}"]), headers=headers, timeout=WAIT)
    assert_error(chunked, 4, "Content-Length should be at most 1048576.")
    assert send(simulator, session).status_code == 200


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("login", "login"),
        ("password", "password"),
        ("destAddr", "destAddr"),
        ("message", "message"),
        ("type", "message/type"),
        ("data", "message/data"),
        ("text", "message/data/text"),
    ],
)
def test_missing_field(
    simulator: Simulator, session: requests.Session, name: str, path: str
) -> None:
    assert_error(send(simulator, session, **{name: ...}), 4, f"{path} is required.")


def test_credentials(simulator: Simulator, session: requests.Session) -> None:
    assert_error(send(simulator, session, login="nobody"), 5)
    assert_error(send(simulator, session, password="wrong"), 6)
    assert_error(send(simulator, session, password="wrong", destAddr="bad"), 6)


@pytest.mark.parametrize(
    "number",
    [
        *("", "+", "7", "7916123456", "791612345678", "0123456789", "1234567890123456", "abc"),
        *("8(916)1234567", "7 916 123 45 67", "-79161234567", "79161234567-", "٧٩١٦١٢٣٤٥٦٧"),
        *(79161234567, None),
    ],
)
def test_destination(simulator: Simulator, session: requests.Session, number: object) -> None:
    assert_error(send(simulator, session, number), 8)


@pytest.mark.parametrize("kind", ["SMS", "flashingcall", "", None, []])
def test_message_type(simulator: Simulator, session: requests.Session, kind: object) -> None:
    assert_error(send(simulator, session, type=kind), 9)


@pytest.mark.parametrize("text", ["", "123", "12345", "123456", "١٢٣٤", "code"])
@pytest.mark.parametrize("login", ["demo", "voice"])
def test_text_without_code(
    simulator: Simulator, session: requests.Session, login: str, text: str
) -> None:
    response = send(simulator, session, login=login, text=text)
    assert_error(response, 4, "FlashingCall text should contain a 4-digit code.")


def test_text(simulator: Simulator, session: requests.Session) -> None:
    assert send(simulator, session, text="1234".ljust(2000)).status_code == 200
    too_long = send(simulator, session, text="1234".ljust(2001))
    assert_error(too_long, 4, "FlashingCall text should have at most 2000 characters.")
    assert_error(send(simulator, session, text=1234), 4, "message/data/text should be a string.")


@pytest.mark.parametrize("ttl", [-1, 6, True, 1.0, "1", None])
def test_wrong_ttl(simulator: Simulator, session: requests.Session, ttl: object) -> None:
    assert_error(send(simulator, session, ttl=ttl), 11)


def test_id_and_notify_url(simulator: Simulator, session: requests.Session) -> None:
    assert_error(send(simulator, session, id=""), 4, "id should not be empty.")
    assert_error(send(simulator, session, id=1), 4, "id should be a string.")
    length = "notifyUrl should have 1 to 2048 characters."
    assert_error(send(simulator, session, notifyUrl=""), 4, length)
    assert_error(send(simulator, session, notifyUrl="x" * 2049), 4, length)
    assert_error(send(simulator, session, notifyUrl=None), 4, "notifyUrl should be a string.")
    assert simulator.calls == []


def test_other_methods(simulator: Simulator, session: requests.Session) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = session.request(method, simulator.url, json={}, timeout=WAIT)
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert send(simulator, session).status_code == 200


# Control of duplicates


def test_repeated_id(simulator: Simulator, session: requests.Session) -> None:
    simulator.script(Answer(manner=Manner.RESET))
    with pytest.raises(requests.ConnectionError):
        send(simulator, session, login="careful", id="a")
    again = send(simulator, session, login="careful", id="a")
    assert again.json() == {"mtNum": simulator.calls[0].mt_num, "id": "a"}
    assert len(simulator.calls) == 1


def test_repeated_text() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    account = Account("demo", "secret", duplicate_control=True)
    with Simulator([account], clock=lambda: now[0]) as simulator, requests.Session() as session:
        session.trust_env = False
        assert send(simulator, session, id="a").status_code == 200
        assert_error(send(simulator, session, id="b"), 10)
        assert_error(send(simulator, session), 10)
        assert send(simulator, session, text="4321").status_code == 200
        assert send(simulator, session, "79161234568").status_code == 200
        now[0] += timedelta(hours=24)
        assert send(simulator, session, id="b").status_code == 200


def test_duplicates_are_allowed_by_default(simulator: Simulator, session: requests.Session) -> None:
    assert send(simulator, session, id="a").json() != send(simulator, session, id="a").json()
    assert len(simulator.calls) == 2


# Steering


def ending(digits: str) -> str:
    return f"7916123{digits}"


def test_table_of_the_documentation() -> None:
    table = re.findall(r"^(\d{4})(?: to (\d{4}))? .* (yes|no|then)$", module.__doc__ or "", re.M)
    rings = {
        f"{digits:04}": word
        for first, last, word in table
        for digits in range(int(first), int(last or first) + 1)
    }
    words = {(True,): "yes", (False,): "no", (False, True): "then"}
    assert rings == {
        digits: words[tuple(answer.rings for answer in answers)]
        for digits, answers in STEERING.items()
    }


@pytest.mark.parametrize("code", ERRORS)
def test_steered_error(simulator: Simulator, session: requests.Session, code: int) -> None:
    digits = "9900" if code == 100 else f"99{code:02}"
    assert_error(send(simulator, session, ending(digits)), code)
    assert simulator.calls == []


@pytest.mark.parametrize(("digits", "code"), [("9941", 1), ("9943", 3)])
def test_error_once(
    simulator: Simulator, session: requests.Session, digits: str, code: int
) -> None:
    for _ in range(2):
        assert_error(send(simulator, session, ending(digits)), code)
        assert send(simulator, session, ending(digits)).status_code == 200
        assert send(simulator, session, ending(digits)).status_code == 200
        assert len(simulator.calls) == 2
        simulator.clear()


def test_reset(simulator: Simulator, session: requests.Session) -> None:
    with pytest.raises(requests.ConnectionError, match="reset"):
        send(simulator, session, ending("9921"))
    assert simulator.requests[0].status is None
    assert len(simulator.calls) == 1


def test_hang_ends_with_the_client(simulator: Simulator, session: requests.Session) -> None:
    with pytest.raises(requests.ReadTimeout):
        session.post(simulator.url, json=body(ending("9920")), timeout=(WAIT, 0.05))
    simulator.wait_for_call(1, WAIT)  # which may be later than the client's patience
    assert simulator.requests[0].status is None


@pytest.mark.parametrize("digits", ["9922", "9923"])
def test_drip_ends_like_a_success(
    simulator: Simulator, session: requests.Session, digits: str
) -> None:
    assert send(simulator, session, ending(digits)).json() == {"mtNum": simulator.calls[0].mt_num}


@pytest.mark.parametrize(
    ("digits", "status", "kind"),
    [
        ("9924", 502, "text/html"),
        ("9925", 200, "text/html"),
        ("9931", 200, list),
        ("9932", 200, str),
        ("9933", 200, type(None)),
        ("9928", 200, dict),
    ],
)
def test_senseless_answer(
    simulator: Simulator, session: requests.Session, digits: str, status: int, kind: object
) -> None:
    response = send(simulator, session, ending(digits))
    assert response.status_code == status
    if isinstance(kind, str):
        assert response.headers["Content-Type"].startswith(kind)
        assert "<html>" in response.text
    else:
        assert type(response.json()) is kind


def test_senseless_bodies(simulator: Simulator, session: requests.Session) -> None:
    assert len(send(simulator, session, ending("9926")).content) > 64 * 1024
    assert send(simulator, session, ending("9928")).json()["error"]["code"] == 8
    assert send(simulator, session, ending("9929"), id="a").json() == {"id": "a"}
    assert type(send(simulator, session, ending("9930")).json()["mtNum"]) is int
    with pytest.raises(UnicodeDecodeError):
        send(simulator, session, ending("9934")).content.decode()
    empty = send(simulator, session, ending("9935"))
    assert (empty.status_code, empty.content) == (200, b"")


def test_redirect(simulator: Simulator, session: requests.Session) -> None:
    response = send(simulator, session, ending("9927"))
    assert (response.status_code, response.headers["Location"]) == (307, "/redirected")
    assert simulator.calls == []


# Scripts


def test_script(simulator: Simulator, session: requests.Session) -> None:
    simulator.script(Answer.error(3, "Slowly."), Answer(status=503, body=b"oops"))
    assert_error(send(simulator, session, password="wrong"), 6)  # leaves the script alone
    assert_error(send(simulator, session), 3, "Slowly.")
    assert send(simulator, session, ending("9908")).content == b"oops"
    assert send(simulator, session).status_code == 200


def test_clear(simulator: Simulator, session: requests.Session) -> None:
    send(simulator, session)
    simulator.script(Answer.error(1))
    simulator.clear()
    assert (simulator.calls, simulator.requests) == ([], [])
    assert send(simulator, session).status_code == 200


# What is remembered


def test_requests(simulator: Simulator, session: requests.Session) -> None:
    send(simulator, session)
    session.post(simulator.url + "path?a=b", data=b"nonsense", timeout=WAIT)
    session.put(simulator.url, timeout=WAIT)
    first, second, third = simulator.requests
    assert (first.method, first.path, first.status) == ("POST", "/", 200)
    assert first.json == body() == json.loads(first.body)
    assert first.headers["content-type"] == "application/json"
    assert (second.path, second.body, second.json, second.status) == (
        "/path?a=b",
        b"nonsense",
        None,
        400,
    )
    assert (third.method, third.status) == ("PUT", 405)


def test_last_call(simulator: Simulator, session: requests.Session) -> None:
    with pytest.raises(LookupError, match="79161234567 was not called"):
        simulator.last_call(NUMBER)
    send(simulator, session)
    send(simulator, session, text="4321")
    send(simulator, session, "79161234568")
    assert simulator.last_call("+79161234567").code == "4321"


def test_wait_for_call(simulator: Simulator, session: requests.Session) -> None:
    with ThreadPoolExecutor() as pool:
        second = pool.submit(simulator.wait_for_call, 2, WAIT)
        send(simulator, session)
        send(simulator, session, text="4321")
        assert second.result(WAIT).code == "4321"
    with pytest.raises(TimeoutError, match="Call 3 was not placed"):
        simulator.wait_for_call(3, timeout=0)


def test_view_of_calls(simulator: Simulator, session: requests.Session) -> None:
    send(simulator, session)
    send(simulator, session, login="voice", text="4321")
    response = session.get(simulator.url + "calls", timeout=WAIT)
    newest, oldest = response.json()
    assert oldest == {
        "number": "+79161234567",
        "calling_number": "+74951231234",
        "code": "1234",
        "voice": False,
        "spoken": "",
        "time": simulator.calls[0].time.isoformat(),
        "mtNum": simulator.calls[0].mt_num,
        "status": None,
        "reached": True,
    }
    send(simulator, session, "79161239966")
    assert not simulator.recent_calls(limit=1)[0]["reached"]  # busy
    assert (newest["voice"], newest["spoken"]) == (True, "Your code is 4 3 2 1.")
    assert len(simulator.requests) == 3  # looking is no request to the provider
    assert len(simulator.recent_calls(limit=1)) == 1


# Delivery reports


class Receiver(ThreadingHTTPServer):
    """Takes reports and answers with `status`."""

    request_queue_size = 128  # fifty calls are reported at once
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/reports/"
        self.changed = threading.Condition()
        self.reports: list[dict[str, Any]] = []
        self.paths: list[str] = []

    def wait(self, n: int) -> list[dict[str, Any]]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.reports) >= n, WAIT)
            return self.reports


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.reports.append(json.loads(content))
            self.server.paths.append(self.path)
            self.server.changed.notify_all()
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_report(simulator: Simulator, session: requests.Session, receiver: Receiver) -> None:
    send(simulator, session, id="a", notifyUrl=receiver.url + "x?y=z")
    call = simulator.calls[0]
    assert simulator.report(call) == 200
    (report,) = receiver.reports
    done, submitted = report.pop("doneDate"), report.pop("submitDate")
    assert report == {
        "id": "a",
        "mtNum": call.mt_num,
        "status": 2,
        "type": "FLASHINGCALL",
        "sourceAddr": "SOURCE",
        "destAddr": NUMBER,
        "text": "1234",
        "partCount": "001",
        "errorCode": "0",
        "mccMnc": "25012",
        "trafficType": 6,
    }
    for date in (done, submitted):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0300", date)
    assert datetime.fromisoformat(submitted) == call.time.replace(microsecond=0)
    assert receiver.paths == ["/reports/x?y=z"]
    assert simulator.recent_calls()[0]["status"] == 2


def test_report_by_hand(
    simulator: Simulator, session: requests.Session, receiver: Receiver
) -> None:
    simulator.report_url = receiver.url
    receiver.status = 404
    send(simulator, session)
    assert simulator.report(simulator.calls[0], 5, "013", mccMnc=..., mtNum=7) == 404
    (report,) = receiver.reports
    assert (report["status"], report["errorCode"], report["doneDate"]) == (5, "013", "")
    assert report["mtNum"] == 7
    assert not {"id", "mccMnc"} & report.keys()


def test_report_to_nobody(simulator: Simulator, session: requests.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://../", "https://127.0.0.1:1"):
        send(simulator, session, notifyUrl=url)
        assert simulator.report(simulator.calls[-1]) is None
    for url in (
        "file:///etc/passwd",
        "ftp://x/",
        "http://",
        "http://x:0",
        "http://x:y",
        "http://ü",
    ):
        send(simulator, session, notifyUrl=url)
        with pytest.raises(ValueError, match="Reports need"):
            simulator.report(simulator.calls[-1])
    send(simulator, session)
    with pytest.raises(ValueError, match="Reports need"):
        simulator.report(simulator.calls[-1])


@pytest.mark.parametrize(
    ("digits", "status", "error_code"),
    [
        ("4567", 2, "0"),
        ("9951", 5, "1"),
        ("9952", 5, "2"),
        ("9954", 5, "4"),
        ("9956", 5, "6"),
        ("9966", 5, "16"),
        ("9921", 2, "0"),
    ],
)
def test_automatic_reports(
    simulator: Simulator,
    session: requests.Session,
    receiver: Receiver,
    digits: str,
    status: int,
    error_code: str,
) -> None:
    simulator.auto_reports = True
    try:
        send(simulator, session, ending(digits), notifyUrl=receiver.url)
    except requests.ConnectionError:
        assert digits == "9921"
    sent, final = receiver.wait(2)
    assert (sent["status"], sent["errorCode"], sent["doneDate"]) == (0, "0", "")
    assert (final["status"], final["errorCode"]) == (status, error_code)
    assert bool(final["doneDate"]) == (status == 2)


def test_an_automatic_report_that_fails_is_said(
    simulator: Simulator,
    session: requests.Session,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.status = 404
    simulator.auto_reports = True
    send(simulator, session, notifyUrl=f"{receiver.url}secret/")
    end = time.monotonic() + WAIT
    while not caplog.messages and time.monotonic() < end:
        time.sleep(0.01)
    mt_num = simulator.calls[0].mt_num
    assert caplog.messages == [f"The delivery report of call {mt_num} failed: status 404."]


def test_no_automatic_report(
    simulator: Simulator, session: requests.Session, receiver: Receiver
) -> None:
    simulator.auto_reports = True
    send(simulator, session, ending("9960"), notifyUrl=receiver.url)
    send(simulator, session, ending("9901"), notifyUrl=receiver.url)
    send(simulator, session)  # which has no URL
    simulator.stop()  # waits for the threads that report
    assert receiver.reports == []


def test_report_before_the_answer(
    simulator: Simulator, session: requests.Session, receiver: Receiver
) -> None:
    simulator.auto_reports = True
    response = send(simulator, session, ending("9961"), notifyUrl=receiver.url)
    assert [report["status"] for report in receiver.reports] == [0, 2]
    assert response.json() == {"mtNum": receiver.reports[0]["mtNum"]}


def test_delayed_report_ends_with_the_simulator(
    simulator: Simulator, session: requests.Session, receiver: Receiver
) -> None:
    simulator.auto_reports = True
    simulator.report_delay = 3600
    send(simulator, session, notifyUrl=receiver.url)
    receiver.wait(1)
    for _ in range(3):  # time enough for a report that does not wait
        simulator.report(simulator.calls[0], 5)
    simulator.stop()
    assert [report["status"] for report in receiver.reports] == [0, 5, 5, 5]


# Many at once, and the end


def test_fifty_at_once(simulator: Simulator, receiver: Receiver) -> None:
    simulator.auto_reports = True
    together = threading.Barrier(50)

    def one(n: int) -> str:
        together.wait(WAIT)
        content = body(f"791612340{n:02}", text=f"{n:04}", notifyUrl=receiver.url)
        with requests.Session() as session:
            session.trust_env = False
            return str(session.post(simulator.url, json=content, timeout=WAIT).json()["mtNum"])

    with ThreadPoolExecutor(50) as pool:
        mt_nums = set(pool.map(one, range(50)))
    assert len(mt_nums) == 50
    assert {call.mt_num for call in simulator.calls} == mt_nums
    assert {call.code for call in simulator.calls} == {f"{n:04}" for n in range(50)}
    assert len(receiver.wait(100)) == 100


@pytest.mark.parametrize("digits", ["9920", "9922", "9923", "4567"])
def test_stop_breaks_off(simulator: Simulator, session: requests.Session, digits: str) -> None:
    simulator.drip = 3600
    before = set(threading.enumerate())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, simulator, session, ending(digits))
        simulator.wait_for_call(1, WAIT)
        if digits == "4567":
            waiting.result(WAIT)  # its connection stays open, idle
        simulator.stop()
        if digits != "4567":
            with pytest.raises(requests.RequestException):
                waiting.result(WAIT)
    assert set(threading.enumerate()) < before  # the simulator's own are gone


def test_stop_breaks_off_a_report(simulator: Simulator, session: requests.Session) -> None:
    simulator.auto_reports = True
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        send(simulator, session, notifyUrl=url)
        connection, _ = silent.accept()
        with connection:
            simulator.stop()


def test_start_and_stop(session: requests.Session) -> None:
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = simulator.url
    simulator.stop()
    for _ in range(2):
        assert simulator.start() is simulator
        with pytest.raises(RuntimeError, match="running already"):
            simulator.start()
        response = send(simulator, session, password="demo")
        assert response.status_code == 200
        simulator.stop()
    assert len(simulator.calls) == 2


def test_command_line(session: requests.Session) -> None:
    command = [sys.executable, "-m", "django_flashcall.simulator", "--port=0", "--login=a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+/", process.stdout.readline())
            assert found
            content = body(login="a-voice", password="demo")
            assert session.post(found[0], json=content, timeout=WAIT).status_code == 200
            line = process.stdout.readline().strip()
            assert line == '+74951230000 calls +79161234567 and says "Your code is 1 2 3 4."'
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--report-url=localhost/reports/", "must begin with http:// or https://"),
        ("--host=203.0.113.1", "Cannot serve on 203.0.113.1:8800"),
    ],
)
def test_what_cannot_be_served(option: str, said: str) -> None:
    command = [sys.executable, "-m", "django_flashcall.simulator", option]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    assert result.returncode
    assert said in result.stderr


def test_needs_no_django() -> None:
    program = "import sys, django_flashcall.simulator; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
