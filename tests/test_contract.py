"""Our own backends, held against the contract that anyone's are."""

import json
import logging
import socket
import threading
import unittest
from dataclasses import replace

import pytest

from django_flashcall import testing
from django_flashcall.backends import Report, WebhookRequest, http, locmem
from django_flashcall.backends.console import ConsoleBackend
from django_flashcall.backends.flashingcall import OUTCOMES, FlashingCallBackend
from django_flashcall.backends.locmem import LocmemBackend
from django_flashcall.exceptions import NumberRejected, TemporaryFailure, UnknownOutcome
from django_flashcall.redaction import Secret
from django_flashcall.simulator import Account, Answer, Manner, Simulator
from django_flashcall.testing import PlacedCall, Situation
from django_flashcall.testing.contract import THREADS
from django_flashcall.testing.steps import shows

PASSWORD = "pa55-w0rd-of-the-site"
ALWAYS = 10
"""Times that an answer is scripted: more than any backend asks."""

ANSWERS = {
    Situation.ACCEPTED: [],
    Situation.NUMBER_REJECTED: [Answer.error(8)] * ALWAYS,
    Situation.DUPLICATE: [Answer.error(10)] * ALWAYS,
    Situation.TEMPORARY: [Answer.error(1)] * ALWAYS,
    Situation.MISCONFIGURED: [Answer.error(6)] * ALWAYS,
    Situation.RECOVERS: [Answer.error(3)],
    Situation.UNCERTAIN: [Answer.error(100)] * ALWAYS,
    Situation.LOST: [Answer(manner=Manner.RESET)] * ALWAYS,
    Situation.SENSELESS: [Answer(body=b"<html>")] * ALWAYS,
    Situation.UNREACHABLE: [],
}
STATUSES = {"sent": 0, "delivered": 2, "undelivered": 5}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(http, "_sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "*")


class FlashingCallTests(testing.BackendContract):
    backend_class = FlashingCallBackend
    account = Account("site", PASSWORD, six_digits=True)
    code_lengths = (4, 6)

    def setUp(self):
        self.simulator = self.enterContext(Simulator([self.account]))
        # Bound and not listening: connections are refused.
        self.nobody = self.enterContext(socket.socket())
        self.nobody.bind(("127.0.0.1", 0))

    def options(self):
        return {
            "url": self.url,
            "login": self.account.login,
            "password": PASSWORD,
            "notify_url": "https://site.example/reports/0123456789abcdef0123456789abcdef/",
            "duplicate_control": self.account.duplicate_control,
        }

    def prepare(self, situation, request):
        self.simulator.clear()
        self.url = self.simulator.url
        if situation is Situation.UNREACHABLE:
            self.url = f"http://127.0.0.1:{self.nobody.getsockname()[1]}/"
        if situation is Situation.ECHO:
            words = json.dumps({**self.options(), "text": request.code, "to": request.phone})
            error = {"code": 4, "description": f"\r\n{words}\x1b"}
            self.simulator.script(
                Answer(status=400, body=json.dumps({"error": error}).encode(), rings=False)
            )
        else:
            self.simulator.script(*ANSWERS[situation])

    def placed(self):
        return [
            PlacedCall(call.number, call.code, call.mt_num, call.id)
            for call in self.simulator.calls
        ]

    def report(self, call, outcome):
        content = {
            "id": call.reference,
            "mtNum": call.provider_id,
            "status": STATUSES[outcome],
            "type": "FLASHINGCALL",
            "doneDate": "2026-01-02T03:04:05+0300",
            "submitDate": "2026-01-02T03:04:04+0300",
            "destAddr": call.phone.removeprefix("+"),
            "text": call.code,
            "errorCode": 16 if outcome == "undelivered" else 0,
            "mccMnc": "25001",
            "messagePrice": 0.35,
        }
        return WebhookRequest("POST", json.dumps(content).encode(), {}, {})


class CarefulFlashingCallTests(FlashingCallTests):
    """With the provider's control of duplicates: what is lost is asked again, and rings once."""

    account = Account("site", PASSWORD, six_digits=True, duplicate_control=True)
    drops_repeats = True


class VoiceCodeTests(FlashingCallTests):
    account = Account("site-voice", PASSWORD, voice=True)
    channel = "voice_code"
    code_lengths = (4,)


class LocmemTests(testing.BackendContract):
    backend_class = LocmemBackend
    situations = frozenset({Situation.ACCEPTED})
    code_lengths = (4, 6)

    def prepare(self, situation, request):
        locmem.outbox.clear()

    def placed(self):
        return [
            PlacedCall(call.phone, call.code, f"locmem-{call.reference}", call.reference)
            for call in locmem.outbox
        ]


class ConsoleTests(testing.BackendContract):
    """Its provider is whoever reads the output."""

    backend_class = ConsoleBackend
    situations = frozenset({Situation.ACCEPTED})
    code_lengths = (4, 6)

    @pytest.fixture(autouse=True)
    def _console(self, capsys):
        self.capsys = capsys

    def prepare(self, situation, request):
        self.capsys.readouterr()
        self.lines = []

    def placed(self):
        self.lines += self.capsys.readouterr().out.splitlines()
        return [
            PlacedCall(line.partition(" rings: ")[0], line.rpartition(" ")[2])
            for line in self.lines
        ]


class ForgetfulBackend(FlashingCallBackend):
    """Takes a code for a number."""

    def wire_request(self, call):
        return super().wire_request(replace(call, code=Secret(int(call.code or 0))))


class InsistentBackend(FlashingCallBackend):
    """Asks again when the phone may be ringing already."""

    def place_call(self, request):
        try:
            return super().place_call(request)
        except UnknownOutcome:
            return super().place_call(replace(request, reference="1" * 32))


class OptimisticBackend(FlashingCallBackend):
    """Takes a lost answer for a rejection."""

    def place_call(self, request):
        try:
            return super().place_call(request)
        except UnknownOutcome:
            pass
        raise TemporaryFailure("No answer.")


class ChainedBackend(FlashingCallBackend):
    """Raises within an except block."""

    def place_call(self, request):
        try:
            return super().place_call(request)
        except NumberRejected as error:
            raise NumberRejected from error


class TalkativeBackend(FlashingCallBackend):
    """Logs what it sends."""

    def place_call(self, request):
        logging.getLogger("somebody").debug("to %s: %s", request.phone, request.code)
        return super().place_call(request)


class TransparentBackend(FlashingCallBackend):
    """Keeps its password as an ordinary string, and so in every traceback."""

    def place_call(self, request):
        password = str(self._password)
        assert password
        return super().place_call(request)


class SharedBackend(FlashingCallBackend):
    """Keeps the call in the instance, which all threads share."""

    together = threading.Barrier(THREADS)

    def place_call(self, request):
        self.request = request
        self.together.wait(timeout=60)
        return super().place_call(self.request)

    def wire_request(self, call):
        return super().wire_request(self.request)


class TrustfulBackend(FlashingCallBackend):
    """Takes reports to be as the provider sends them."""

    def parse_reports(self, request):
        content = json.loads(request.body)
        outcome = OUTCOMES[content["status"]]
        return [Report(self.alias, outcome, provider_id=content["mtNum"])]


class LaxBackend(FlashingCallBackend):
    """Takes any options."""

    @classmethod
    def check_options(cls, alias, options):
        return []


@pytest.mark.parametrize(
    ("backend", "case"),
    [
        (ForgetfulBackend, "a_call_is_placed_with_its_code"),
        (InsistentBackend, "a_lost_answer_is_an_unknown_outcome"),
        (OptimisticBackend, "an_answer_without_sense_is_an_unknown_outcome"),
        (ChainedBackend, "no_error_shows_a_secret"),
        (TalkativeBackend, "no_error_shows_a_secret"),
        (TransparentBackend, "no_error_shows_a_secret"),
        (SharedBackend, "threads_do_not_mix_calls_up"),
        (TrustfulBackend, "nothing_hostile_breaks_the_parser"),
        (TrustfulBackend, "each_outcome_is_reported"),
        (LaxBackend, "an_unknown_option_is_an_error"),
        (LaxBackend, "a_missing_option_is_an_error"),
    ],
)
def test_a_wrong_backend_fails(backend, case):
    tests = type("WrongTests", (FlashingCallTests,), {"backend_class": backend})
    result = unittest.TestResult()
    tests(f"test_{case}").run(result)
    assert result.testsRun == 1
    assert result.failures or result.errors


def test_the_class_itself_is_no_test():
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(testing.BackendContract)
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun == 0


def test_what_a_provider_cannot_do_is_no_case():
    names = unittest.defaultTestLoader.getTestCaseNames
    assert "test_each_outcome_is_reported" in names(FlashingCallTests)
    assert "test_each_outcome_is_reported" not in names(LocmemTests)
    assert "test_a_repeat_is_the_same_call" in names(CarefulFlashingCallTests)
    assert "test_a_repeat_is_the_same_call" not in names(FlashingCallTests)


def test_a_subclass_of_a_subclass_keeps_what_it_chose():
    class Ours(FlashingCallTests):
        test_threads_do_not_mix_calls_up = None

        def test_a_call_is_placed_with_its_code(self):
            """One of our own."""

    class Voice(Ours):
        pass

    assert Voice.test_threads_do_not_mix_calls_up is None
    assert Voice.test_a_call_is_placed_with_its_code is Ours.test_a_call_is_placed_with_its_code


@pytest.mark.parametrize("text", ["call a1234b sent", "<object at 0x7f1234ab>"])
def test_a_code_within_a_public_value_is_no_code(text):
    assert not shows(text, "1234", {"a1234b"})


@pytest.mark.parametrize(
    "text", ["call a1234b: 1234", "<Code(1234) at 0x7f5678ab>", "3 rings 1234"]
)
def test_a_code_beside_a_public_value_is_found(text):
    assert shows(text, "1234", {"a1234b", "3", "1234"})
