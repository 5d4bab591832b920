"""A provider of another shape, as the docs show it: it chooses the code, and reports by GET."""

import json
import socket

import pytest
from django.db import connection
from django.urls import reverse

from django_flashcall import services, testing
from django_flashcall.backends import WebhookRequest, http
from django_flashcall.exceptions import InvalidDestination, ProviderUnavailable, WrongCode
from django_flashcall.models import Call, Verification
from django_flashcall.testing import PlacedCall, Situation
from docs.examples.other_provider import OtherBackend

from .other_provider import OtherProvider

KEY = "k3y-of-the-site"
SECRET = "0123456789abcdef0123456789abcdef"
PHONE = "+79161234567"
ALWAYS = 10

TURNS = {
    Situation.ACCEPTED: [],
    Situation.NUMBER_REJECTED: ["bad_number"] * ALWAYS,
    Situation.DUPLICATE: ["repeated"] * ALWAYS,
    Situation.TEMPORARY: ["busy"] * ALWAYS,
    Situation.MISCONFIGURED: ["no_money"] * ALWAYS,
    Situation.RECOVERS: ["busy"],
    Situation.UNCERTAIN: ["a_reason_that_nobody_knows"] * ALWAYS,
    Situation.LOST: [None] * ALWAYS,
    Situation.SENSELESS: [b"<html>"] * ALWAYS,
    Situation.UNREACHABLE: [],
}
STATES = {"sent": "dialing", "delivered": "answered", "undelivered": "failed"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(http, "_sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "*")


class OtherBackendTests(testing.BackendContract):
    backend_class = OtherBackend
    code_lengths = (4, 6)

    def setUp(self):
        self.provider = self.enterContext(OtherProvider(KEY))
        self.nobody = self.enterContext(socket.socket())  # bound and not listening
        self.nobody.bind(("127.0.0.1", 0))

    def options(self):
        return {"url": self.url, "key": KEY}

    def prepare(self, situation, request):
        self.provider.clear()
        self.url = self.provider.url
        if situation is Situation.UNREACHABLE:
            self.url = f"http://127.0.0.1:{self.nobody.getsockname()[1]}/"
        if situation is Situation.ECHO:
            text = f"\r\nBearer {KEY} {request.phone}\x1b"
            self.provider.script({"ok": False, "reason": "bad_request", "text": text})
        else:
            self.provider.script(*TURNS[situation])

    def placed(self):
        return [PlacedCall(call.to, call.code, call.id, call.ref) for call in self.provider.calls]

    def report(self, call, outcome):
        query = {"call": call.provider_id, "ref": call.reference, "state": STATES[outcome]}
        if outcome == "undelivered":
            query["cause"] = "busy"
        return WebhookRequest("GET", b"", query, {})


@pytest.fixture
def other(settings):
    with OtherProvider(KEY) as provider:
        settings.FLASHCALL = {
            "BACKENDS": {
                "default": {
                    "BACKEND": "docs.examples.other_provider.OtherBackend",
                    "OPTIONS": {"url": provider.url, "key": KEY},
                }
            },
            "DELIVERY_REPORT_SECRETS": [SECRET],
            "CODE_LENGTH": 6,
            "COOLDOWN": 0,
        }
        yield provider


def digest():
    return Call.objects.latest("pk").code_digest


@pytest.mark.django_db(transaction=True)
def test_from_start_to_report(live_server, client, other):
    url = f"{live_server.url}/api/verifications/"

    def post(url, **data):
        return client.post(url, data, "application/json").json()

    started = post(url, phone=PHONE)
    assert started["call"]["status"] == "sent"
    assert started["code_length"] == 6
    (call,) = other.calls
    assert call.to == PHONE
    checked = post(f"{url}{started['id']}/check/", code=call.code)
    assert checked["token"]
    assert digest() == ""
    path = reverse(
        "django_flashcall:delivery-report", kwargs={"alias": "default", "secret": SECRET}
    )
    assert other.report(live_server.url + path, call, "failed", "busy") == 200
    assert Call.objects.get().status == "undelivered"
    assert Call.objects.get().error_code == "busy"
    assert other.report(live_server.url + path, call, "answered") == 200
    assert Call.objects.get().status == "delivered"
    assert client.post(path, {"call": call.id}).status_code == 405


@pytest.fixture
def before_the_answer(other, monkeypatch):
    """Do something while the site waits for the provider, in the provider's thread."""

    def do(action):
        answer = other.answer

        def act_and_answer(*args):
            try:
                action()
            finally:
                connection.close()
            return answer(*args)

        monkeypatch.setattr(other, "answer", act_and_answer)

    return do


@pytest.mark.django_db(transaction=True)
def test_nothing_verifies_before_the_answer(other, before_the_answer):
    kept = []
    before_the_answer(lambda: kept.append(digest()))
    verification = services.start(PHONE)
    services.resend(verification)
    assert kept == ["", ""]
    assert digest()
    first, second = other.calls
    if first.code != second.code:
        with pytest.raises(WrongCode):
            services.check(verification, first.code)
    assert services.check(verification, second.code)


@pytest.mark.django_db
def test_a_lost_answer_has_no_code(other):
    other.script(None)
    verification = services.start(PHONE)
    assert verification.newest_call.status == "unknown"
    assert digest() == ""
    with pytest.raises(WrongCode):
        services.check(verification, other.calls[0].code)
    services.resend(verification)
    assert services.check(verification, other.calls[1].code)


@pytest.mark.django_db
def test_a_refused_resend_leaves_the_earlier_code(other):
    verification = services.start(PHONE)
    other.script("bad_number")
    with pytest.raises(InvalidDestination):
        services.resend(verification)
    assert services.check(verification, other.calls[0].code)


@pytest.mark.django_db
@pytest.mark.parametrize("code", ["", "123", "12345", "1234567", "12345x", "١٢٣٤٥٦"])
def test_a_code_that_nobody_could_type(other, code, caplog):
    other.script(json.dumps({"ok": True, "call": "c-1", "code": code}).encode())
    with pytest.raises(ProviderUnavailable):
        services.start(PHONE)
    call = Call.objects.get()
    # The phone rings all the same, so that it keeps its place in the limits.
    assert (call.status, call.must_mend, call.code_digest) == ("unknown", True, "")
    assert call.provider_message == "The provider's code does not have 6 digits."


def cancel():
    services.cancel(Verification.objects.get())


def spend():
    Verification.objects.update(attempts_left=0)
    Verification.objects.get().erase_codes()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", [cancel, spend])
def test_what_ended_while_we_waited_keeps_no_digest(other, before_the_answer, end):
    verification = services.start(PHONE)
    before_the_answer(end)
    services.resend(verification)
    assert len(other.calls) == 2
    assert [call.code_digest for call in Call.objects.all()] == ["", ""]


@pytest.mark.django_db
def test_test_numbers_keep_their_code(other, configure):
    configure(TEST_NUMBERS={PHONE: "123456"})
    assert services.check(services.start(PHONE), "123456")
    assert other.calls == []
