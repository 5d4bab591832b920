"""The backends that call nobody."""

import threading

import pytest

from django_flashcall.backends import CallRequest
from django_flashcall.backends.console import ConsoleBackend
from django_flashcall.backends.locmem import LocmemBackend
from django_flashcall.redaction import Secret


def call(reference="a" * 32, channel="flash_call"):
    return CallRequest("+79161234567", Secret("7391"), reference, channel)


class TestLocmem:
    def test_calls_are_in_the_outbox(self, outbox):
        receipt = LocmemBackend("default").place_call(call())
        assert outbox == [call()]
        assert outbox[0].code == "7391"
        assert receipt.provider_id == "locmem-" + "a" * 32

    def test_no_call_of_many_threads_is_lost(self, outbox):
        backend = LocmemBackend("default")
        threads = [
            threading.Thread(target=backend.place_call, args=(call(f"{n:032}"),)) for n in range(50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(each.reference for each in outbox) == [f"{n:032}" for n in range(50)]


class TestConsole:
    def test_a_flash_call(self, capsys):
        receipt = ConsoleBackend("default").place_call(call())
        assert capsys.readouterr().out == "+79161234567 rings: the calling number ends in 7391\n"
        assert receipt.provider_id == "console-" + "a" * 32

    def test_a_voice_code(self, capsys):
        ConsoleBackend("default").place_call(call(channel="voice_code"))
        assert capsys.readouterr().out == "+79161234567 rings: a voice says 7 3 9 1\n"

    def test_it_does_not_go_online_unnoticed(self):
        (problem,) = ConsoleBackend.check_deployment("default", {})
        assert problem.id == "django_flashcall.W001"
        assert not problem.is_serious()
        assert problem.hint


@pytest.mark.parametrize("backend", [ConsoleBackend, LocmemBackend])
def test_there_is_nothing_to_set(backend):
    assert backend.check_options("default", {}) == []
    (problem,) = backend.check_options("default", {"stream": None})
    assert problem.id == "django_flashcall.E005"
