"""``flashcall_call`` against the simulator."""

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_flashcall import services
from django_flashcall.backends import Report
from django_flashcall.models import Call
from django_flashcall.signals import call_placed

from .test_secrecy import shows

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


def run(*arguments):
    said = StringIO()
    try:
        call_command("flashcall_call", *arguments, stdout=said)
    except CommandError as error:
        said.write(f"CommandError: {error}")
    return " ".join(said.getvalue().split())


def test_a_call(provider):
    said = run("8 916 123-45-67")
    placed = provider.last_call(NUMBER)
    assert "Number: +7******4567 Backend: default Status: sent" in said
    assert f"Provider ID: {placed.mt_num}" in said
    assert re.search(r"Duration: \d+\.\d\d s", said)
    assert not shows(placed.code, said.replace("+7******4567", ""))


def test_the_voice_channel(provider):
    assert "Backend: voice" in run(NUMBER, "--channel", "voice_code")
    assert provider.last_call(NUMBER).voice


def test_what_the_provider_refuses(provider):
    said = run("+79161239906")
    assert "Status: rejected" in said
    assert "Provider error: 6 Provider message: Invalid password" in said
    assert "CommandError: provider_unavailable:" in said


def test_an_answer_that_may_have_been_a_call(provider):
    said = run("+79161239900")
    assert "Status: unknown" in said
    assert "CommandError: provider_unavailable" in said


@pytest.mark.parametrize("number", ["nonsense", "+14155552671"])
def test_what_is_refused_before_a_call(provider, number):
    said = run(number)
    assert said.startswith("CommandError: ")
    assert ("ALLOWED_COUNTRIES" in said) == ("phone_not_allowed" in said) == (number != "nonsense")
    assert "Status" not in said
    assert provider.calls == []


def test_the_report(provider):
    def report(call, **kwargs):
        reference = call.reference.hex
        services.record_report(
            Report("default", "undelivered", reference=reference, error_code="busy")
        )

    call_placed.connect(report, sender=Call)
    try:
        assert "Report: undelivered, line busy" in run(NUMBER, "--wait", "30")
    finally:
        call_placed.disconnect(report, sender=Call)
