"""`FlashingCallBackend` and the provider's API: what is sent, and what each answer means."""

import json
import socket
import traceback
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_flashcall.backends import CallRequest, Receipt, http
from django_flashcall.backends.flashingcall import FlashingCallBackend
from django_flashcall.exceptions import (
    DuplicateRejected,
    Misconfigured,
    NumberRejected,
    ProviderError,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.redaction import Secret
from django_flashcall.simulator import ERRORS, Account, Answer, Manner, Simulator

from .raw_server import WATCHDOG, Server, sending, without_ports

PASSWORD = "pa55-w0rd-of-the-site"
NOTIFY_URL = "https://site.example/reports/0123456789abcdef0123456789abcdef/"
REFERENCE = "0123456789abcdef" * 2
KINDS = {
    **dict.fromkeys([1, 3, 100], TemporaryFailure),
    **dict.fromkeys([2, 4, 5, 6, 7, 9, 11], Misconfigured),
    8: NumberRejected,
    10: DuplicateRejected,
}
RETRIED = (1, 3)


def call(ending="4567", code="7391", reference=REFERENCE):
    return CallRequest(f"+7916123{ending}", Secret(code), reference, "flash_call")


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses between attempts, which nobody waits for."""
    seconds = []
    monkeypatch.setattr(http, "_sleep", seconds.append)
    monkeypatch.setenv("NO_PROXY", "*")
    return seconds


@pytest.fixture
def provider():
    accounts = [Account("site", PASSWORD), Account("careful", PASSWORD, duplicate_control=True)]
    with Simulator(accounts, drip=0.02) as simulator:
        yield simulator


@pytest.fixture
def backend(provider):
    """Make backends for the provider; they are closed at the end."""
    made = []

    def make(**options):
        options = {"url": provider.url, "login": "site", "password": PASSWORD, **options}
        made.append(FlashingCallBackend.build("default", options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def failure(backend, request=None):
    """Return what a call raises."""
    with pytest.raises(ProviderError) as caught:
        backend.place_call(request or call())
    return caught.value


def error(code, description="", status=400, **content):
    body = {"error": {"code": code, "description": description}, **content}
    return Answer(status=status, body=json.dumps(body).encode(), rings=False)


def body(content, status=200):
    return Answer(status=status, body=content)


class TestRequest:
    def test_is_the_specifications(self, backend, provider):
        backend().place_call(call())
        (request,) = provider.requests
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/json"
        assert request.json == {
            "login": "site",
            "password": PASSWORD,
            "destAddr": "79161234567",
            "message": {"type": "FLASHINGCALL", "data": {"text": "7391", "ttl": 1}},
            "id": REFERENCE,
        }

    @pytest.mark.parametrize("ttl", range(6))
    def test_ttl_is_always_there(self, backend, provider, ttl):
        backend(ttl=ttl).place_call(call())
        assert provider.requests[0].json["message"]["data"]["ttl"] == ttl

    def test_notify_url(self, backend, provider):
        backend(notify_url=NOTIFY_URL).place_call(call())
        assert provider.requests[0].json["notifyUrl"] == NOTIFY_URL

    @pytest.mark.parametrize("password", ["пароль", '"\\\n', "\N{TELEPHONE RECEIVER}", "\ud800"])
    def test_any_password_arrives(self, provider, password):
        provider.accounts["odd"] = Account("odd", password)
        options = {"url": provider.url, "login": "odd", "password": password}
        FlashingCallBackend.build("default", options).place_call(call())

    def test_the_code_alone_is_the_text(self, backend, provider):
        backend().place_call(call(code="0042"))
        assert provider.requests[0].json["message"]["data"]["text"] == "0042"


class TestAccepted:
    def test_the_receipt_has_the_providers_identifier(self, backend, provider):
        receipt = backend().place_call(call())
        assert receipt == Receipt(provider.calls[0].mt_num)

    @pytest.mark.parametrize(
        ("mt_num", "expected"),
        [
            ('"7390612217"', "7390612217"),
            ("7390612217", "7390612217"),
            ("-1", "-1"),
            ('"' + "x" * 64 + '"', "x" * 64),
            ('"' + "x" * 65 + '"', ""),
            ("1" * 65, ""),
            ('""', ""),
            ('"1 2"', ""),
            ('"1\\u0000"', ""),
            ('"1\\n"', ""),
            ('"\\u0661"', ""),
            ("null", ""),
            ("true", ""),
            ("1.5", ""),
            ("NaN", ""),
            ("[1]", ""),
            ('{"a": 1}', ""),
        ],
    )
    def test_any_identifier(self, backend, provider, mt_num, expected):
        provider.script(body(f'{{"mtNum": {mt_num}}}'.encode()))
        assert backend().place_call(call()) == Receipt(expected)

    @pytest.mark.parametrize(
        "content", [b"{}", b'{"error": null}', b' {"id": "1"}\n', b"\xef\xbb\xbf{}"]
    )
    def test_any_object_without_an_error(self, backend, provider, content):
        provider.script(body(content))
        assert backend().place_call(call()) == Receipt("")

    def test_one_connection_for_many_calls(self, backend, provider):
        subject = backend()
        assert len({subject.place_call(call()).provider_id for _ in range(5)}) == 5


class TestErrors:
    @pytest.mark.parametrize("code", ERRORS)
    @pytest.mark.parametrize("status", [None, 200])
    def test_each_of_the_twelve(self, backend, provider, code, status):
        provider.script(*[Answer.error(code, "in detail", status=status)] * 3)
        raised = failure(backend())
        assert type(raised) is KINDS[code]
        assert raised.code == code
        assert raised.http_status == (status or ERRORS[code][1])
        assert raised.description == f"{ERRORS[code][0]}: in detail"
        assert raised.may_have_been_placed is (code == 100)
        assert len(provider.requests) == (3 if code in RETRIED else 1)

    @pytest.mark.parametrize("code", RETRIED)
    def test_what_passes_is_asked_again(self, backend, provider, pauses, code):
        provider.script(Answer.error(code))
        assert backend().place_call(call()) == Receipt(provider.calls[0].mt_num)
        first, second = provider.requests
        assert first.body == second.body
        assert len(provider.calls) == len(pauses) == 1

    def test_a_duplicate_of_our_own_attempt_was_the_first_one(self, backend, provider):
        provider.script(Answer.error(3), Answer.error(10))
        assert backend().place_call(call()) == Receipt("")

    def test_a_duplicate_after_a_refused_connection_was_not(self, provider, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        late = Simulator(provider.accounts.values(), port=port)
        late.script(Answer.error(10))
        monkeypatch.setattr(http, "_sleep", lambda seconds: late.start())
        subject = FlashingCallBackend("default", url=url, login="site", password=PASSWORD)
        assert isinstance(failure(subject), DuplicateRejected)
        subject.close()
        late.stop()

    @pytest.mark.parametrize("code", [0, 12, 99, -1, 10**30, None, True, 4.0, "x", "", "٤", [], {}])
    @pytest.mark.parametrize("status", [200, 400, 503])
    def test_codes_that_nobody_knows(self, backend, provider, code, status):
        provider.script(error(code, "odd", status))
        raised = failure(backend())
        assert type(raised) is TemporaryFailure
        assert raised.may_have_been_placed
        assert raised.code == (code if code in (0, 12, 99) and type(code) is int else None)
        assert len(provider.requests) == 1

    def test_a_code_as_a_string(self, backend, provider):
        provider.script(error("8"))
        raised = failure(backend())
        assert isinstance(raised, NumberRejected)
        assert raised.code == 8

    @pytest.mark.parametrize("status", [200, 400])
    def test_an_empty_error(self, backend, provider, status):
        provider.script(body(b'{"error": {}}', status))
        raised = failure(backend())
        assert type(raised) is TemporaryFailure
        assert raised.may_have_been_placed

    @pytest.mark.parametrize("text", [None, 5, True, ["x"], {"x": 1}])
    def test_descriptions_that_are_none(self, backend, provider, text):
        provider.script(error(4, text, extendedDescription=text))
        assert failure(backend()).description == ""

    def test_descriptions_are_cut_and_plain(self, backend, provider):
        provider.script(error(4, "a\x00\x1b[31m\r\nb\u202ec", extendedDescription="x" * 5000))
        description = failure(backend()).description
        assert description.startswith("a [31m b c: xxx")
        assert len(description) == 300

    @pytest.mark.parametrize(
        "status", [201, 202, 204, 301, 302, 307, 400, 401, 404, 418, 429, 500, 502, 503, 599]
    )
    @pytest.mark.parametrize("content", [b"<html>", b'{"mtNum": "1"}', b'{"error": null}', b"[]"])
    def test_other_statuses_say_nothing_of_the_call(self, backend, provider, status, content):
        content = b"" if status == 204 else content
        provider.script(Answer(status=status, body=content, location="/elsewhere"))
        raised = failure(backend())
        assert type(raised) is TemporaryFailure
        assert raised.may_have_been_placed
        assert raised.http_status == status
        assert len(provider.requests) == 1

    def test_another_status_with_a_huge_page(self, backend, provider):
        provider.script(body(b"x" * 100_000, 502))
        raised = failure(backend())
        assert type(raised) is TemporaryFailure
        assert raised.may_have_been_placed


ABSURD = {
    "nothing": b"",
    "a blank": b" ",
    "no JSON": b"OK",
    "a page": b"<html></html>",
    "a list": b'[{"mtNum": "1"}]',
    "a string": b'"accepted"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "half an object": b'{"mtNum": "1"',
    "two objects": b'{"mtNum": "1"}{"mtNum": "2"}',
    "no UTF-8": b'{"mtNum": "\xff\xfe"}',
    "UTF-16": '{"mtNum": "1"}'.encode("utf-16"),
    "an error that is a string": b'{"error": "4"}',
    "an error that is a number": b'{"error": 0}',
    "an error that is false": b'{"error": false}',
    "an error that is a list": b'{"mtNum": "1", "error": []}',
    "depth": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "a huge number": b'{"mtNum": ' + b"9" * 60_000 + b"}",
    "over 64 KiB": b'{"mtNum": "1", "padding": "' + b"x" * 65_536 + b'"}',
}


class TestUnknown:
    @pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD)
    def test_absurd_answers(self, backend, provider, content):
        provider.script(body(content))
        raised = failure(backend())
        assert type(raised) is UnknownOutcome
        assert raised.may_have_been_placed
        assert raised.http_status == 200
        assert len(provider.requests) == 1

    @pytest.mark.parametrize("manner", [Manner.HANG, Manner.DRIP_HEADERS, Manner.DRIP_BODY])
    def test_no_answer_in_time(self, backend, provider, manner):
        provider.script(Answer(manner=manner))
        assert type(failure(backend(timeout=0.3))) is UnknownOutcome
        provider.wait_for_call(timeout=WATCHDOG)  # it may be slower than we were patient
        assert len(provider.requests) == 1

    def test_no_answer_at_all(self, backend, provider):
        provider.script(Answer(manner=Manner.RESET))
        assert type(failure(backend())) is UnknownOutcome
        assert len(provider.calls) == len(provider.requests) == 1

    def test_headers_that_break_off(self, backend):
        with Server(sending(b"HTTP/1.1 200 OK\r\nContent-Len")) as server:
            assert type(failure(backend(url=server.url))) is UnknownOutcome


class TestDuplicateControl:
    """Where the provider drops repeats of an ``id``, an uncertain attempt is asked again."""

    @pytest.fixture
    def careful(self, backend):
        return backend(login="careful", duplicate_control=True)

    def test_a_lost_answer(self, careful, provider):
        provider.script(Answer(manner=Manner.RESET))
        receipt = careful.place_call(call())
        (placed,) = provider.calls
        assert receipt.provider_id == placed.mt_num
        assert len(provider.requests) == 2

    def test_error_100(self, careful, provider):
        provider.script(Answer.error(100))
        assert careful.place_call(call()) == Receipt(provider.calls[0].mt_num)

    def test_error_10_to_the_repeat(self, careful, provider):
        provider.script(Answer(manner=Manner.RESET), Answer.error(10))
        assert careful.place_call(call()) == Receipt("")

    @pytest.mark.parametrize("first", [Answer(manner=Manner.RESET), Answer.error(100)])
    @pytest.mark.parametrize("later", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11])
    def test_no_later_rejection_takes_it_back(self, careful, provider, first, later):
        provider.script(first, *[Answer.error(later)] * 2)
        assert failure(careful).may_have_been_placed

    def test_absurd_answers_are_final(self, careful, provider):
        provider.script(body(b"[]"))
        assert type(failure(careful)) is UnknownOutcome
        assert len(provider.requests) == 1


class TestSecrecy:
    ECHOES = {
        "misconfigured": error(4, f"7391 {PASSWORD}", extendedDescription=f"{NOTIFY_URL}7391"),
        "duplicate": error(10, f"text=7391&password={PASSWORD}"),
        "temporary": error(100, f"{PASSWORD}7391"),
        "unknown": body(f"7391 {PASSWORD} {NOTIFY_URL}".encode()),
        "other": body(f'{{"7391": "{PASSWORD}"}}'.encode(), 500),
        "reset": Answer(manner=Manner.RESET),
    }

    def assert_silent(self, raised):
        secrets = ("7391", PASSWORD, NOTIFY_URL)
        shown = [repr(raised), str(raised), repr(vars(raised))]
        shown += ["".join(traceback.format_exception(raised))]
        for frame, _ in traceback.walk_tb(raised.__traceback__):
            assert "/requests/" not in frame.f_code.co_filename
            assert "/urllib3/" not in frame.f_code.co_filename
            if "django_flashcall" in Path(frame.f_code.co_filename).parts:
                shown += map(repr, frame.f_locals.values())
        assert any("place_call" in line for line in shown)
        text = without_ports("\n".join(shown))
        assert not [secret for secret in secrets if secret in text]
        assert raised.__cause__ is None
        assert raised.__context__ is None

    @pytest.mark.parametrize("echo", ECHOES)
    def test_errors_show_neither_code_nor_password(self, backend, provider, echo, caplog):
        caplog.set_level(0)
        provider.script(self.ECHOES[echo])
        self.assert_silent(failure(backend(notify_url=NOTIFY_URL)))
        logged = without_ports(caplog.text)
        assert not [s for s in ("7391", PASSWORD, "+7916", "7916123") if s in logged]

    def test_refused_connections_do_not(self, backend, provider):
        subject = backend(notify_url=NOTIFY_URL)
        provider.stop()
        self.assert_silent(failure(subject))
        provider.start()

    def test_cut_off_answers_do_not(self, backend):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n7391"
        with Server(sending(answer, forever=b"7391")) as server:
            self.assert_silent(failure(backend(url=server.url, timeout=0.3)))

    def test_garbage_does_not(self, backend):
        with Server(sending(b"7391 " + PASSWORD.encode() + b"\r\n\r\n")) as server:
            self.assert_silent(failure(backend(url=server.url)))

    def test_retries_are_logged_by_the_reference(self, backend, provider, caplog):
        caplog.set_level("INFO")
        provider.script(Answer.error(3))
        backend().place_call(call())
        (record,) = [r for r in caplog.records if r.name.startswith("django_flashcall")]
        assert REFERENCE in record.getMessage()

    def test_the_repr_of_the_backend(self, backend, provider):
        subject = backend(notify_url=NOTIFY_URL)
        assert repr(subject) == f"<FlashingCallBackend 'default' at {provider.host}>"
        assert PASSWORD not in repr(vars(subject))
        assert NOTIFY_URL not in repr(vars(subject))


OPTIONS = {"url": "https://provider.example/send", "login": "site", "password": PASSWORD}


def found(**options):
    return FlashingCallBackend.check_options("default", {**OPTIONS, **options})


class TestChecks:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"url": "http://provider.example:8080/send?partner=1"},
            {"url": "https://[2001:db8::1]/"},
            {"url": "https://пример.рф/"},
            {"ttl": 0},
            {"ttl": 5},
            {"timeout": 15, "connect_timeout": 15},
            {"timeout": 0.5},
            {"retries": 0, "duplicate_control": True, "pool_size": 1},
            {"notify_url": ""},
            {"notify_url": NOTIFY_URL},
            {"verify": True},
        ],
    )
    def test_right_values_are_silent(self, options):
        assert found(**options) == []

    @pytest.mark.parametrize("ttl", [-1, 6, "1", 1.0, True, None])
    def test_ttl(self, ttl):
        (problem,) = found(ttl=ttl)
        assert problem.id == "django_flashcall.E007"
        assert problem.hint

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *[
                ("url", url)
                for url in (
                    "provider.example",
                    "//provider.example/",
                    "ftp://provider.example/",
                    "https://",
                    "https:///send",
                    "https://.example/",
                    f"https://{'x' * 64}.example/",
                    "https://user:secret@provider.example/",
                    "https://user@provider.example/",
                    "https://provider.example:99999/",
                    "https://provider.example:port/",
                    "https://[::1/",
                    "https://provider.example/a b",
                    "https://provider.example/\r\nX: y",
                    " https://provider.example/",
                    b"https://provider.example/",
                    5,
                )
            ],
            *[("login", value) for value in (5, b"site", ["site"])],
            *[("password", value) for value in (5, b"secret", ["secret"])],
            *[
                (name, value)
                for name in ("timeout", "connect_timeout")
                for value in (0, -1, 15.1, float("nan"), float("inf"), "5", True, None)
            ],
            ("connect_timeout", 11),
            *[("retries", value) for value in (-1, 6, 1.0, "2", True, None)],
            *[("duplicate_control", value) for value in (0, 1, "no", None)],
            *[("pool_size", value) for value in (0, -1, 1.0, "2", True, None)],
            *[
                ("notify_url", value)
                for value in ("reports/", "ftp://a.example/", "https://a/" + "x" * 2048, None, 5)
            ],
            *[("verify", value) for value in (False, None, 1, 0, "", "/no/such/file", __file__)],
        ],
    )
    def test_wrong_values(self, name, value):
        (problem,) = found(**{name: value})
        assert problem.id == "django_flashcall.E008"
        assert repr(name) in problem.msg
        assert problem.hint

    def test_a_bundle_of_certificates(self, tmp_path):
        assert found(verify=str(tmp_path)) == []

    def test_neither_password_nor_secret_of_reports_is_shown(self):
        problems = found(password=[PASSWORD], notify_url=f"ftp://{NOTIFY_URL}", ttl=9)
        assert len(problems) == 3
        assert PASSWORD not in repr(problems)
        assert NOTIFY_URL not in repr(problems)
        assert FlashingCallBackend.secret_options == {"password", "notify_url"}

    def test_wrong_values_build_nothing(self):
        with pytest.raises(ImproperlyConfigured, match="ttl"):
            FlashingCallBackend.build("default", {**OPTIONS, "ttl": 6})

    @pytest.mark.parametrize(
        ("url", "ids"),
        [
            ("https://provider.example/", []),
            ("http://provider.example/", ["django_flashcall.E016"]),
            ("HTTP://10.0.0.1:8080/", ["django_flashcall.E016"]),
            ("http://localhost.example/", ["django_flashcall.E016"]),
            ("http://localhost:8800/", []),
            ("http://provider.localhost/", []),
            ("http://127.0.0.2/", []),
            ("http://[::1]:80/", []),
            (None, []),
        ],
    )
    def test_deployment(self, url, ids):
        problems = FlashingCallBackend.check_deployment("default", {**OPTIONS, "url": url})
        assert [problem.id for problem in problems] == ids
        assert all(problem.hint for problem in problems)
