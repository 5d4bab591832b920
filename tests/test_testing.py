"""What a site's own tests use: the outbox, the last code, the fixtures of the plugin."""

import subprocess
import sys

import pytest
from django.conf import settings as django_settings
from django.test import TestCase

from django_flashcall import services, testing
from django_flashcall.backends import get_backend
from django_flashcall.backends.console import ConsoleBackend
from django_flashcall.backends.locmem import LocmemBackend
from django_flashcall.simulator import Account, Answer, Simulator

CONSOLE = {"BACKEND": "django_flashcall.backends.console.ConsoleBackend"}


@pytest.fixture
def console(settings):
    """A site that would call somebody."""
    settings.FLASHCALL = {
        "BACKENDS": {"default": CONSOLE, "voice": CONSOLE},
        "CHANNELS": {"flash_call": ["default"], "voice_code": ["voice"]},
        "MAX_ATTEMPTS": 5,
    }


def kinds():
    return [type(get_backend(alias)) for alias in django_settings.FLASHCALL["BACKENDS"]]


class TestOutbox:
    @pytest.mark.django_db
    def test_no_backend_of_the_site_is_left(self, console, flashcall_outbox):
        assert kinds() == [LocmemBackend, LocmemBackend]
        verification = services.start("+79161234567", channel="voice_code")
        assert len(flashcall_outbox) == 1
        assert services.check(verification, testing.last_code("8 (916) 123-45-67"))

    def test_other_settings_stay(self, console, flashcall_outbox):
        assert django_settings.FLASHCALL["MAX_ATTEMPTS"] == 5

    @pytest.mark.django_db
    @pytest.mark.parametrize("turn", [1, 2])
    def test_it_is_empty_at_first(self, flashcall_outbox, turn):
        assert flashcall_outbox == []
        services.start("+79161234567")
        assert len(flashcall_outbox) == 1

    def test_a_context_manager(self, console):
        with testing.capture_calls() as outbox:
            assert kinds() == [LocmemBackend, LocmemBackend]
            assert outbox == []
        assert kinds() == [ConsoleBackend, ConsoleBackend]

    @pytest.mark.django_db
    def test_the_last_code(self, flashcall_outbox, configure):
        configure(COOLDOWN=0)
        verification = services.start("+79161234567")
        services.start("+79161234568")
        services.resend(verification)
        assert testing.last_code("+79161234567") == str(flashcall_outbox[2].code)
        assert repr(testing.last_code("+79161234567")) == repr("".join(flashcall_outbox[2].code))
        with pytest.raises(LookupError, match=r"\+79161234569 .*: \+79161234567, \+79161234568\."):
            testing.last_code("+79161234569")


@testing.capture_calls()
class WithUnittestTests(TestCase):
    def test_a_signup(self):
        body = {"phone": "+79161234567"}
        started = self.client.post("/api/verifications/", body, "application/json").json()
        body = {"code": testing.last_code("+79161234567")}
        url = f"/api/verifications/{started['id']}/check/"
        assert self.client.post(url, body, "application/json").json()["token"]


@testing.capture_calls()
class WithSetUpTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        services.start("+79161234567")
        cls.code = testing.last_code("+79161234567")

    def test_the_call_was_captured(self):
        assert self.code.isdigit()
        assert testing.outbox == []  # of this test


@pytest.mark.django_db
def test_a_site_with_workers(settings, flashcall_simulator):
    settings.FLASHCALL = {**settings.FLASHCALL, "DISPATCH": "task"}
    with testing.capture_calls():
        services.start("+79161234567")
        assert testing.last_code("+79161234567")
    settings.FLASHCALL = testing.simulated(flashcall_simulator)
    assert services.start("+79161234568").newest_call.status == "sent"


class TestAccounts:
    @pytest.fixture
    def flashcall_simulator_accounts(self):
        return [Account("mine", "password")]

    def test_they_are_those_of_the_test(self, flashcall_simulator):
        assert list(flashcall_simulator.accounts) == ["mine"]


class TestSimulator:
    def test_it_changes_no_setting(self, settings, flashcall_simulator):
        before = settings.FLASHCALL
        assert flashcall_simulator.url
        assert settings.FLASHCALL is before

    @pytest.mark.django_db
    def test_it_is_told_what_to_do_next(self, api, settings, flashcall_simulator):
        settings.FLASHCALL = testing.simulated(flashcall_simulator)
        flashcall_simulator.script(Answer.error(8))
        answer = api.post("/api/verifications/", {"phone": "+79161234567"}, format="json")
        assert answer.json()["error_code"] == "invalid_destination"

    @pytest.mark.django_db
    @pytest.mark.parametrize("channel", ["flash_call", "voice_code"])
    def test_the_whole_way(self, flashcall_provider, channel):
        verification = services.start("+79161234567", channel=channel)
        call = flashcall_provider.last_call("+79161234567")
        assert call.voice is (channel == "voice_code")
        assert services.check(verification, call.code)

    def test_a_channel_without_an_account_is_not_offered(self):
        with Simulator([Account("site", "pa55word")]) as simulator:
            found = testing.simulated(simulator, ttl=2)
        assert found["CHANNELS"] == {"flash_call": ["default"]}
        assert found["BACKENDS"]["default"]["OPTIONS"]["ttl"] == 2


def test_the_plugin_imports_no_django():
    script = (
        "import django_flashcall.pytest_plugin, sys; "
        "sys.exit(any(name.split('.')[0] in ('django', 'rest_framework') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
