"""django-otp: the device that calls, in the released package's own admin login."""

import html
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import OperationalError, connection, connections, transaction
from django.test import Client
from django.utils import timezone
from django.utils.translation import override
from django_otp import match_token, user_has_device, verify_token
from django_otp.models import Device, GenerateNotAllowed, VerifyNotAllowed
from django_otp.plugins.otp_static.models import StaticDevice

from django_flashcall import services
from django_flashcall.contrib.otp import checks
from django_flashcall.contrib.otp.models import CallDevice
from django_flashcall.exceptions import (
    Cooldown,
    InvalidPhone,
    ProviderUnavailable,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.models import Attempt, Phone, Rule, Verification

from .test_breaker import ANSWERS, ASKED, ScriptedBackend
from .test_codes_of_others import everything_stored

# `clean_otp` opens a transaction of its own, and the call is placed when it ends.
pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+79161234567"
LOGIN = "/otp-admin/login/"
CODE = {"CODE_LENGTH": 6}


@pytest.fixture(autouse=True)
def site(settings, configure):
    configure(PURPOSES={"signup": {}, "otp": CODE})
    settings.ROOT_URLCONF = "tests.second_factor_urls"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django_otp.middleware.OTPMiddleware"]


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create_superuser("ann", password="secret")


@pytest.fixture
def device(ann):
    return CallDevice.objects.create(user=ann, name="mobile", number="8 916 123-45-67")


@pytest.fixture
def scripted(configure):
    configure(BACKENDS={"default": {"BACKEND": f"{ScriptedBackend.__module__}.ScriptedBackend"}})
    ANSWERS.clear()
    ASKED.clear()


def log_in(client, device, path=LOGIN, **fields):
    """Send django-otp's form, and return what it says; "" is a redirect into the admin."""
    chosen = {"username": "ann", "password": "secret", "otp_device": device.persistent_id}
    response = client.post(path, {**chosen, "next": "/otp-admin/", **fields})
    if response.status_code == 302:
        assert response.url == "/otp-admin/"
        return ""
    assert response.status_code == 200
    found = re.search(r'<p class="errornote">(.+?)</p>', response.content.decode(), re.S)
    return html.unescape(found[1].strip())


def challenge(client, device, path=LOGIN):
    return log_in(client, device, path, otp_challenge="Get OTP Challenge")


def wrong(outbox):
    return "000000" if outbox[-1].code != "000000" else "000001"


class TestAdminLogin:
    def test_from_the_password_to_the_admin(self, client, device, outbox):
        page = client.get("/otp-admin/")
        assert page.status_code == 302
        first = client.post(LOGIN, {"username": "ann", "password": "secret"})
        assert f'<option value="{device.persistent_id}">mobile</option>' in first.content.decode()
        assert 'name="otp_challenge"' in first.content.decode()
        assert challenge(client, device) == (
            "OTP Challenge: We're calling +7******4567. "
            "The code is the last 6 digits of the number that calls."
        )
        (call,) = outbox
        assert (call.phone, len(call.code)) == (NUMBER, 6)
        assert "Invalid token" in log_in(client, device, otp_token=wrong(outbox))
        assert log_in(client, device, otp_token=call.code) == ""
        assert client.get("/otp-admin/").status_code == 200
        assert Phone.objects.get().verified_at is not None

    def test_in_russian(self, client, device, outbox):
        client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ru"
        assert "Звоним на +7******4567. Код — последние 6 цифр" in challenge(client, device)

    def test_through_the_provider(self, client, device, provider, configure):
        challenge(client, device)
        [call] = provider.calls
        assert log_in(client, device, otp_token=call.calling_number[-6:]) == ""

    def test_no_transaction_is_open_while_it_calls(self, client, device, scripted, monkeypatch):
        seen = []
        monkeypatch.setattr(
            ScriptedBackend, "place_call", lambda *_: seen.append(connection.in_atomic_block)
        )
        challenge(client, device)
        assert seen == [False]

    def test_a_code_is_right_once(self, client, device, outbox):
        challenge(client, device)
        code = outbox[0].code
        assert log_in(client, device, otp_token=code) == ""
        assert "Invalid token" in log_in(Client(), device, otp_token=code)

    def test_a_code_without_a_call(self, client, device):
        assert "Invalid token" in log_in(client, device, otp_token="123456")
        assert not Attempt.objects.exists()

    def test_what_cannot_be_a_code_spends_nothing(self, client, device, outbox):
        challenge(client, device)
        for rubbish in ("12", "abcdef", "0" * 500, "\x7f1"):
            assert "Invalid token" in log_in(client, device, otp_token=rubbish)
        assert not Attempt.objects.exists()
        spaced = f"{outbox[0].code[:3]} {outbox[0].code[3:]}"
        assert log_in(client, device, otp_token=spaced) == ""

    def test_only_the_newest_call_counts(self, client, device, outbox, configure):
        configure(COOLDOWN=0)
        challenge(client, device)
        challenge(client, device)
        old, new = (call.code for call in outbox)
        if old != new:
            assert "Invalid token" in log_in(client, device, otp_token=old)
        assert log_in(client, device, otp_token=new) == ""

    def test_the_device_of_somebody_else(self, client, device, outbox, django_user_model):
        django_user_model.objects.create_superuser("bob", password="secret")
        assert "not interactive" in log_in(client, device, username="bob", otp_challenge="1")
        assert not outbox

    def test_a_code_of_the_old_number_after_a_change(self, client, device, outbox):
        challenge(client, device)
        changed = device_again(device)
        changed.number = "+79161234568"
        changed.save()
        assert "Invalid token" in log_in(client, device, otp_token=outbox[0].code)

    def test_a_verification_that_was_deleted(self, client, device, outbox):
        challenge(client, device)
        services.forget(Phone.objects.get())
        assert "Invalid token" in log_in(client, device, otp_token=outbox[0].code)


class TestErrors:
    """They become errors of django-otp's form."""

    def test_the_cooldown(self, client, device, outbox):
        challenge(client, device)
        assert "We've just called this number. You can request another call in" in (
            challenge(client, device)
        )
        assert len(outbox) == 1
        assert log_in(client, device, otp_token=outbox[0].code) == ""

    def test_a_number_that_must_not_be_called(self, client, ann, outbox):
        abroad = CallDevice.objects.create(user=ann, name="abroad", number="+14155552671")
        assert "We can't call this number." in challenge(client, abroad)

    def test_the_provider(self, client, device, scripted):
        ANSWERS[:] = [TemporaryFailure("Gone.")]
        assert "We can't call you right now." in challenge(client, device)

    def test_an_unknown_outcome_is_none(self, client, device, scripted):
        ANSWERS[:] = [UnknownOutcome("Silent.")]
        assert "We're calling" in challenge(client, device)
        assert log_in(client, device, otp_token=ASKED[0].code) == ""

    def test_outside_of_a_transaction_it_is_raised(self, device, outbox):
        assert "We're calling" in device.generate_challenge()
        with pytest.raises(Cooldown):
            device.generate_challenge()

    def test_atomic_requests(self, client, device, outbox, monkeypatch, caplog):
        """The login fails with a message, until its view is decorated as the guide says."""
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        assert "We can't call you right now." in challenge(client, device)
        assert "non_atomic" in caplog.text
        assert not outbox
        assert "We're calling" in challenge(client, device, "/non-atomic-admin/login/")
        assert len(outbox) == 1
        caplog.clear()
        assert "Invalid token" in log_in(client, device, otp_token=outbox[0].code)
        assert "non_atomic" in caplog.text
        path = "/non-atomic-admin/login/"
        log_in(client, device, path, otp_token=wrong(outbox))
        assert Verification.objects.get().attempts_left == 2
        assert log_in(client, device, path, otp_token=outbox[0].code) == ""


class TestLimits:
    def test_no_attempts_left(self, client, device, outbox):
        challenge(client, device)
        for _ in range(3):
            assert "Invalid token" in log_in(client, device, otp_token=wrong(outbox))
        told = "You have no attempts left. Request another call."
        assert log_in(client, device, otp_token=outbox[0].code) == told
        assert Attempt.objects.count() == 3

    def test_no_rollback_gives_an_attempt_back(self, ann, device, outbox):
        """A view of Django REST framework that raises an error rolls ATOMIC_REQUESTS back."""
        device.generate_challenge()
        for token in (wrong(outbox), outbox[0].code):
            with transaction.atomic():
                assert verify_token(ann, device.persistent_id, token) is None
                transaction.set_rollback(True)
        assert Verification.objects.get().status == "pending"
        assert verify_token(ann, device.persistent_id, wrong(outbox)) is None
        assert Verification.objects.get().attempts_left == 2
        assert verify_token(ann, device.persistent_id, outbox[0].code) == device

    def test_there_is_no_second_throttle(self, client, device, outbox):
        """django-otp's own would refuse the right code for a second after a wrong one."""
        challenge(client, device)
        log_in(client, device, otp_token=wrong(outbox))
        assert log_in(client, device, otp_token=outbox[0].code) == ""

    def test_expired(self, client, device, outbox):
        challenge(client, device)
        with time_machine.travel(timezone.now() + timedelta(seconds=301)):
            told = "The code has expired. Request another call."
            assert log_in(client, device, otp_token=outbox[0].code) == told

    def test_a_locked_number(self, client, device, outbox, configure):
        configure(COOLDOWN=0, MAX_FAILURES=1)
        challenge(client, device)
        log_in(client, device, otp_token=wrong(outbox))
        told = log_in(client, device, otp_token=outbox[0].code)
        assert "temporarily disabled because of 1 failed attempt," in told
        allowed, why = device_again(device).verify_is_allowed()
        phone = Phone.objects.get()
        assert not allowed
        assert why == {
            "reason": VerifyNotAllowed.N_FAILED_ATTEMPTS,
            "failure_count": 1,
            "locked_until": phone.waits_until,
        }
        assert "Too many calls. Try again in" in challenge(client, device)

    def test_strangers_do_not_lock_its_owner_out(self, ann, device, outbox, configure):
        configure(COOLDOWN=0, MAX_FAILURES=2)
        services.redeem(services.check(services.start(NUMBER, user=ann), outbox[0].code), user=ann)
        locked_until = timezone.now() + timedelta(hours=1)
        Phone.objects.update(failures=2, waits_until=locked_until)
        assert device.generate_is_allowed() == (True, None)
        device.generate_challenge()
        assert match_token(ann, wrong(outbox)) is None
        assert device_again(device).verify_is_allowed() == (True, None)
        Phone.objects.update(known_failures=2, known_waits_until=locked_until)
        assert device.generate_is_allowed()[0] is False
        allowed, why = device_again(device).verify_is_allowed()
        assert (allowed, why["failure_count"], why["locked_until"]) == (False, 2, locked_until)

    def test_when_it_can_call_again(self, device, outbox):
        assert device.generate_is_allowed() == (True, None)
        device.generate_challenge()
        allowed, why = device.generate_is_allowed()
        assert not allowed
        assert why["reason"] == GenerateNotAllowed.COOLDOWN_DURATION_PENDING
        assert why["next_generation_at"] == Phone.objects.get().last_called_at + timedelta(
            seconds=60
        )

    def test_it_can_be_checked_before_it_calls(self, device):
        """django-two-factor-auth asks this of every device before it trusts a cookie."""
        assert device.verify_is_allowed() == (True, None)

    def test_tokens_of_other_devices_spend_no_attempt(self, ann, device, outbox):
        static = StaticDevice.objects.create(user=ann, name="backup")
        static.token_set.create(token="abcdefgh")
        device.generate_challenge()
        assert match_token(ann, "abcdefgh") == static
        assert not Attempt.objects.exists()

    def test_fifty_right_codes_at_once_are_one(self, device, outbox):
        device.generate_challenge()
        assert sum(check_fifty_times(device, outbox[0].code)) == 1

    def test_fifty_wrong_codes_at_once_are_three(self, device, outbox):
        device.generate_challenge()
        assert not any(check_fifty_times(device, wrong(outbox)))
        assert Attempt.objects.count() == 3
        assert Phone.objects.get().failures == 3


def check_fifty_times(device, code):
    """Check a code as django-otp's forms do, from 10 threads at once."""
    barrier = threading.Barrier(10)

    def check():
        while True:
            try:
                with transaction.atomic():
                    again = Device.from_persistent_id(device.persistent_id, for_verify=True)
                    return again.verify_token(code)
            except OperationalError as error:
                # On SQLite, a transaction that has read does not wait for one that writes.
                if "locked" not in str(error):
                    raise

    def check_five_times(_):
        barrier.wait()
        try:
            return [check() for _ in range(5)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        return [right for each in pool.map(check_five_times, range(10)) for right in each]


def device_again(device):
    return CallDevice.objects.get(pk=device.pk)


class TestDevice:
    def test_the_number_is_stored_in_one_format(self, device):
        assert device_again(device).number == NUMBER

    @pytest.mark.parametrize("number", ["", "12", "+7916"])
    def test_no_number(self, ann, number):
        with pytest.raises(InvalidPhone):
            CallDevice.objects.create(user=ann, number=number)
        with pytest.raises(ValidationError):
            CallDevice(user=ann, name="x", number=number).full_clean()

    def test_it_shows_no_number(self, device):
        assert str(device) == "mobile (+7******4567)"

    def test_no_code_is_stored(self, client, device, outbox, caplog):
        caplog.set_level("DEBUG")
        challenge(client, device)
        assert outbox[0].code not in everything_stored()
        assert outbox[0].code not in caplog.text

    def test_the_number_does_not_become_that_of_the_account(self, ann, device, outbox):
        """It would become a way to log in by phone, and the second factor the only one."""
        device.generate_challenge()
        assert device.verify_token(outbox[0].code)
        assert not services.has_verified_phone(ann)

    def test_it_can_be_set_up_by_its_user(self, ann, outbox):
        new = CallDevice.objects.create(user=ann, name="new", number=NUMBER, confirmed=False)
        assert not user_has_device(ann)
        new.generate_challenge()
        assert new.verify_token(outbox[0].code)
        new.confirmed = True
        new.save()
        assert user_has_device(ann)

    def test_a_voice_code_while_flash_calls_are_stopped(self, device, configure, outbox):
        configure(
            PURPOSES={"signup": {}, "otp": {}},
            CHANNELS={"flash_call": ["default"], "voice_code": ["default"]},
        )
        rule = Rule.objects.create(action="deny", channel="flash_call")
        assert "a voice reads you the code" in device.generate_challenge()
        assert outbox[0].channel == "voice_code"
        Rule.objects.create(action="deny", channel="voice_code")
        with pytest.raises(ProviderUnavailable):
            device.generate_challenge()
        rule.delete()

    def test_a_voice_code(self, device, configure, outbox):
        backend = {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}
        configure(
            BACKENDS={"default": backend},
            CHANNELS={"voice_code": ["default"]},
            PURPOSES={"otp": {}},
        )
        assert "Answer it and a voice reads you the code." in device.generate_challenge()
        assert device.verify_token(outbox[0].code)
        with override("ru"):
            assert "Ответьте" in device._announcement()

    def test_the_caller_must_not_wait_in_a_transaction(self, device, outbox):
        with transaction.atomic():
            device.generate_challenge()
            assert not outbox
        assert len(outbox) == 1
        with pytest.raises(ValidationError, match="just called"), transaction.atomic():
            device.generate_challenge()

    def test_no_migration_is_missing(self):
        call_command("makemigrations", "flashcall_otp", check=True, dry_run=True, verbosity=0)

    def test_its_migration_can_be_undone(self):
        call_command("migrate", "flashcall_otp", "zero", verbosity=0)
        assert "flashcall_otp_calldevice" not in connection.introspection.table_names()
        call_command("migrate", "flashcall_otp", verbosity=0)
        assert "flashcall_otp_calldevice" in connection.introspection.table_names()


class TestAdmin:
    @pytest.fixture
    def staff(self, client, django_user_model):
        from django.contrib.auth.models import Permission

        bob = django_user_model.objects.create_user("bob", is_staff=True)
        names = ("view_calldevice", "change_calldevice", "add_calldevice")
        bob.user_permissions.set(Permission.objects.filter(codename__in=names))
        client.force_login(bob)
        return bob

    def test_numbers_are_masked(self, client, staff, device):
        path = "/admin/flashcall_otp/calldevice/"
        for page in (path, f"{path}{device.pk}/change/", f"{path}?q=ann"):
            content = client.get(page).content.decode()
            assert "+7******4567" in content
            assert NUMBER not in content

    def test_a_number_cannot_be_found_digit_by_digit(self, client, staff, device):
        path = "/admin/flashcall_otp/calldevice/"
        for digits in ("%2B7916", "%2B7917"):
            assert client.get(f"{path}?number__startswith={digits}").status_code == 400
        assert client.get(f"{path}?confirmed__exact=1").status_code == 200

    def test_a_username_that_is_a_number(self, client, staff, device, ann):
        type(ann).objects.filter(pk=ann.pk).update(username=NUMBER)
        path = "/admin/flashcall_otp/calldevice/"
        for page in path, f"{path}{device.pk}/change/":
            assert NUMBER not in client.get(page).text
        assert "0 call devices" in client.get(path, {"q": NUMBER[:6]}).text
        assert "1 call device" in client.get(path, {"q": NUMBER}).text

    def test_those_who_may_see_numbers(self, admin_client, device):
        path = f"/admin/flashcall_otp/calldevice/{device.pk}/change/"
        page = admin_client.get(path).content.decode()
        assert f'value="{NUMBER}"' in page
        assert "verification" not in re.sub("(?s)<(nav|head).+?</\\1>", "", page).lower()

    def test_a_masked_number_is_not_changed(self, client, staff, device):
        path = f"/admin/flashcall_otp/calldevice/{device.pk}/change/"
        fields = {
            "user": device.user_id,
            "name": "new",
            "confirmed": "on",
            "number": "+79161234568",
        }
        assert client.post(path, fields).status_code == 302
        assert (device_again(device).name, device_again(device).number) == ("new", NUMBER)

    def test_a_new_device(self, client, staff, ann):
        path = "/admin/flashcall_otp/calldevice/add/"
        fields = {"user": ann.pk, "name": "new", "confirmed": "on", "number": "12"}
        assert "Enter a phone number" in client.post(path, fields).content.decode()
        fields["number"] = "8 (916) 123-45-67"
        assert client.post(path, fields).status_code == 302
        assert CallDevice.objects.get().number == NUMBER


class TestChecks:
    def ids(self, check):
        return [message.id.partition(".")[2] for message in check()]

    def test_all_is_right(self):
        assert self.ids(checks.check_settings) == []
        assert self.ids(checks.check_deployment) == []

    def test_there_is_no_purpose(self, configure):
        configure(PURPOSES={"signup": {}})
        assert self.ids(checks.check_settings) == ["E101"]
        assert self.ids(checks.check_deployment) == []

    def test_four_digits(self, configure):
        configure(PURPOSES={"otp": {}})
        assert self.ids(checks.check_settings) == []
        assert self.ids(checks.check_deployment) == ["W101"]

    def test_atomic_requests(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        assert self.ids(checks.check_deployment) == ["W102"]

    def test_settings_that_another_check_reports(self, configure):
        configure(PURPOSES=7)
        assert self.ids(checks.check_settings) == []
        assert self.ids(checks.check_deployment) == []
