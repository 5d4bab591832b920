"""django-two-factor-auth: our gateway, on the released package's own pages."""

import asyncio
import html
import re

import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user
from django.db import connection, connections
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from two_factor.plugins.phonenumber.method import PhoneCallMethod
from two_factor.plugins.phonenumber.models import PhoneDevice
from two_factor.plugins.registry import registry

from django_flashcall import services
from django_flashcall.contrib.two_factor import checks, methods, visits
from django_flashcall.contrib.two_factor.gateways import FlashCall
from django_flashcall.contrib.two_factor.middleware import FlashcallTwoFactorMiddleware
from django_flashcall.exceptions import (
    Cooldown,
    DuplicateRejected,
    TemporaryFailure,
    UnknownOutcome,
)
from django_flashcall.models import Call, Phone, Verification

from .test_breaker import ANSWERS, ASKED, ScriptedBackend
from .test_codes_of_others import everything_stored

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+79161234567"
BACKUP = "+79161234568"
LOGIN = "/account/login/"
SETUP = "/account/two_factor/setup/"
ADD_PHONE = "/account/two_factor/phone/register/"
HINT = "You don't need to answer: the code is the last 6 digits of the number that calls."


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = "tests.second_factor_urls"
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django_otp.middleware.OTPMiddleware",
        checks.MIDDLEWARE,
    ]
    settings.LOGIN_URL = "two_factor:login"
    settings.LOGIN_REDIRECT_URL = "two_factor:profile"


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create_user("ann", password="secret")


@pytest.fixture
def phone(ann):
    return PhoneDevice.objects.create(user=ann, name="default", number=NUMBER, method="call")


@pytest.fixture
def backup(ann, phone):
    return PhoneDevice.objects.create(user=ann, name="backup", number=BACKUP, method="call")


@pytest.fixture
def scripted(configure):
    configure(BACKENDS={"default": {"BACKEND": f"{ScriptedBackend.__module__}.ScriptedBackend"}})
    ANSWERS.clear()
    ASKED.clear()


class Page:
    """An answer of one of the package's wizards, read as a person reads it."""

    def __init__(self, response):
        assert response.status_code == 200, response
        self.text = html.unescape(response.content.decode())
        self.step = re.search(r'current_step" value="(\w+)"', self.text)[1]

    @property
    def errors(self):
        return re.findall(r'<ul class="errorlist[^>]*><li>(.+?)</li>', self.text)


def send(client, path, step, **fields):
    """Send a step of a wizard; return the next page, or where it redirects."""
    view = {LOGIN: "login_view", SETUP: "setup_view", ADD_PHONE: "phone_setup_view"}[path]
    named = {f"{step}-{name}": value for name, value in fields.items()}
    response = client.post(path, {f"{view}-current_step": step, **named})
    return response.url if response.status_code == 302 else Page(response)


def enter_password(client):
    return send(client, LOGIN, "auth", username="ann", password="secret")


def enter_token(client, token):
    return send(client, LOGIN, "token", otp_token=token)


def set_up(client, number):
    """Take the steps up to the call; with one method, the package skips the choice."""
    client.get(SETUP)
    page = send(client, SETUP, "welcome")
    if page.step == "method":
        page = send(client, SETUP, "method", method="call")
    assert page.step == "call"
    return send(client, SETUP, "call", number=number)


def wrong(code):
    return "000001" if code != "000001" else "000002"


def is_in(client):
    request = HttpRequest()
    request.session = client.session
    return get_user(request).is_authenticated


class TestLogin:
    def test_from_the_password_to_the_session(self, client, phone, outbox, ann, settings):
        settings.TWO_FACTOR_PHONE_THROTTLE_FACTOR = 0  # it refuses all for a second otherwise
        page = enter_password(client)
        assert page.step == "token"
        assert f"We're calling you. {HINT}" in page.text
        assert page.errors == []
        (call,) = outbox
        assert (call.phone, len(call.code)) == (NUMBER, 6)
        page = enter_token(client, wrong(call.code))
        assert "Invalid token" in page.errors[0]
        assert HINT in page.text
        assert "We're calling" not in page.text
        assert not is_in(client)
        assert enter_token(client, call.code) == "/account/two_factor/"
        assert is_in(client)
        verification = Verification.objects.get()
        assert (verification.status, verification.user) == ("redeemed", ann)
        assert Call.objects.get().progress == Call.Progress.COMPLETED
        assert Phone.objects.get().verified_at is not None

    def test_in_russian(self, client, phone, outbox):
        client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ru"
        assert (
            "Звоним вам. Отвечать не нужно: код — последние 6 цифр" in enter_password(client).text
        )

    def test_through_the_provider(self, client, phone, provider):
        enter_password(client)
        [call] = provider.calls
        assert enter_token(client, call.calling_number[-6:]) == "/account/two_factor/"

    def test_the_number_does_not_become_that_of_the_account(self, client, phone, outbox, ann):
        enter_password(client)
        enter_token(client, outbox[0].code)
        assert not services.has_verified_phone(ann)

    def test_a_second_time_in_the_cooldown(self, client, phone, outbox):
        """The code of the first call is still good."""
        enter_password(client)
        page = enter_password(client)
        assert re.fullmatch(
            r"We've just called this number. You can request another call in \d+ seconds.",
            page.errors[0],
        )
        assert "We're calling you" not in page.text
        assert HINT not in page.text
        assert len(outbox) == 1
        assert enter_token(client, outbox[0].code) == "/account/two_factor/"
        assert Verification.objects.get().status == "redeemed"

    def test_the_same_token_twice_within_its_step(self, client, phone, outbox, configure):
        configure(COOLDOWN=0)
        with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False):
            enter_password(client)
            enter_password(client)
            first, second = outbox
            assert first.code == second.code
            assert first.reference != second.reference
            assert enter_token(client, first.code) == "/account/two_factor/"
        states = Verification.objects.values_list("state", flat=True)
        assert sorted(states) == ["pending", "redeemed"]

    def test_the_throttle_of_the_package_allows_no_call(self, client, phone, outbox):
        phone.throttle_increment()
        assert "We're calling" not in enter_password(client).text
        assert not outbox

    def test_a_duplicate_for_the_provider(self, client, phone, scripted):
        ANSWERS[:] = [DuplicateRejected("10")]
        assert "We've already placed this call." in enter_password(client).errors[0]

    def test_a_provider_that_fails(self, client, phone, scripted):
        ANSWERS[:] = [TemporaryFailure("Gone.")]
        page = enter_password(client)
        assert page.step == "token"
        assert page.errors == ["We can't call you right now. Please try again in a few minutes."]

    def test_an_unknown_outcome_is_no_error(self, client, phone, scripted):
        ANSWERS[:] = [UnknownOutcome("Silent.")]
        assert enter_password(client).errors == []
        assert enter_token(client, ASKED[0].code) == "/account/two_factor/"

    def test_the_backup_phone(self, client, phone, backup, outbox):
        page = enter_password(client)
        assert "Call number +7 *** ***-**-68" in page.text
        page = Page(client.post(LOGIN, {"challenge_device": backup.persistent_id}))
        assert page.errors == []
        assert [call.phone for call in outbox] == [NUMBER, BACKUP]
        assert enter_token(client, outbox[1].code) == "/account/two_factor/"
        verified = Verification.objects.exclude(verified_at=None).get()
        assert verified.phone.number == BACKUP

    def test_the_call_of_another_browser_is_not_confirmed(self, phone, outbox, configure):
        configure(COOLDOWN=0)
        here, elsewhere = Client(), Client()
        enter_password(here)
        enter_password(elsewhere)
        assert enter_token(here, outbox[0].code) == "/account/two_factor/"
        states = Verification.objects.order_by("created_at").values_list("state", flat=True)
        assert list(states) == ["redeemed", "pending"]

    def test_a_remembered_browser_confirms_no_call(self, client, phone, outbox, settings):
        settings.TWO_FACTOR_REMEMBER_COOKIE_AGE = 3600
        enter_password(client)
        send(client, LOGIN, "token", otp_token=outbox[0].code, remember="on")
        del client.cookies[settings.SESSION_COOKIE_NAME]
        stranger = Client()
        with time_machine.travel(Call.objects.get().created_at.timestamp() + 70):
            enter_password(stranger)  # who knows the password, and not the code
            assert enter_password(client) == "/account/two_factor/"
        assert len(outbox) == 2
        assert Verification.objects.latest("created_at").status == "pending"

    def test_ten_logins_in_a_row(self, client, phone, outbox, configure):
        """Confirmed calls do not count for the limits of the address."""
        configure(CALLS_PER_IP="1/hour", CALLS_PER_PHONE="20/day", COOLDOWN=0)
        for _ in range(10):
            enter_password(client)
            assert enter_token(client, outbox[-1].code) == "/account/two_factor/"
            client.logout()

    def test_the_address_counts(self, phone, backup, outbox, configure):
        configure(CALLS_PER_IP="1/hour")
        here = Client(REMOTE_ADDR="203.0.113.7")
        enter_password(here)
        page = Page(here.post(LOGIN, {"challenge_device": backup.persistent_id}))
        assert "Too many calls. Try again in" in page.errors[0]
        assert Verification.objects.get().ip == "203.0.113.7"

    def test_text_messages_are_not_ours(self, client, ann, outbox, settings):
        settings.TWO_FACTOR_SMS_GATEWAY = "two_factor.gateways.fake.Fake"
        PhoneDevice.objects.create(user=ann, name="default", number=NUMBER, method="sms")
        assert "We sent you a text message" in enter_password(client).text
        assert not outbox

    def test_no_code_is_stored(self, client, phone, outbox, caplog):
        caplog.set_level("DEBUG", "django_flashcall")
        enter_password(client)
        assert outbox[0].code not in everything_stored()
        assert outbox[0].code not in caplog.text

    def test_atomic_requests(self, client, phone, outbox, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        assert enter_password(client).errors == []
        assert enter_token(client, outbox[0].code) == "/account/two_factor/"


class TestSetup:
    def test_from_the_number_to_the_device(self, client, ann, outbox):
        client.force_login(ann)
        page = set_up(client, NUMBER)
        assert page.step == "validation"
        assert HINT in page.text
        assert page.errors == []
        (call,) = outbox
        page = send(client, SETUP, "validation", token=wrong(call.code))
        assert "not valid" in page.errors[0]
        assert HINT in page.text
        assert "We've encountered an issue" not in page.text  # the call was placed
        assert not PhoneDevice.objects.exists()
        assert Verification.objects.get().status == "pending"
        done = send(client, SETUP, "validation", token=call.code)
        assert done == "/account/two_factor/setup/complete/"
        assert PhoneDevice.objects.get().number.as_e164 == NUMBER
        verification = Verification.objects.get()
        assert (verification.status, verification.user) == ("redeemed", ann)

    @pytest.mark.parametrize(
        ("number", "error"),
        [
            ("+14155552671", "We can't call this number. Try another mobile number."),
            ("+74951234567", "We can't call this number. Try another mobile number."),
        ],
    )
    def test_a_number_that_must_not_be_called(self, client, ann, outbox, number, error):
        client.force_login(ann)
        page = set_up(client, number)
        assert page.errors == [error]
        assert "We've encountered an issue" in page.text
        assert HINT not in page.text
        assert not outbox

    def test_many_numbers_from_one_account(self, client, ann, outbox, configure):
        """A way to place calls to many numbers: it is limited by address."""
        configure(CALLS_PER_IP="2/hour")
        client.force_login(ann)
        for last in range(3):
            page = set_up(client, f"+7916123450{last}")
        assert "Too many calls" in page.errors[0]
        assert len(outbox) == 2

    def test_the_backup_phone(self, client, ann, phone, outbox):
        enter_password(client)
        enter_token(client, outbox[0].code)
        client.get(ADD_PHONE)
        page = send(client, ADD_PHONE, "setup", number=BACKUP, method="call")
        assert page.step == "validation"
        assert HINT in page.text
        assert outbox[1].phone == BACKUP
        assert send(client, ADD_PHONE, "validation", token=outbox[1].code)
        assert PhoneDevice.objects.get(name="backup").number.as_e164 == BACKUP
        verification = Verification.objects.get(phone__number=BACKUP)
        assert (verification.status, verification.user) == ("redeemed", ann)

    def test_the_backup_phone_cannot_be_called(self, client, phone, outbox):
        enter_password(client)
        enter_token(client, outbox[0].code)
        client.get(ADD_PHONE)
        page = send(client, ADD_PHONE, "setup", number="+14155552671", method="call")
        assert page.errors == ["We can't call this number. Try another mobile number."]

    def test_an_administrator_confirms_nothing(self, client, admin_client, ann, outbox):
        client.force_login(ann)
        set_up(client, NUMBER)
        fields = {"user": ann.pk, "name": "default", "number": NUMBER, "method": "call"}
        fields |= {"key": "ab" * 20, "confirmed": "on", "throttling_failure_count": 0}
        path = "/admin/phonenumber/phonedevice/add/"
        assert admin_client.post(path, fields).status_code == 302
        assert PhoneDevice.objects.exists()
        assert Verification.objects.get().status == "pending"


class TestOutsideOfRequests:
    def test_the_error_is_raised(self, phone, outbox):
        phone.generate_challenge()
        assert len(outbox) == 1
        with pytest.raises(Cooldown):
            phone.generate_challenge()

    def test_there_is_no_visit_after_a_request(self, client, phone, outbox):
        enter_password(client)
        assert visits.current() is None

    def test_nor_after_one_that_failed(self):
        def fail(request):
            assert visits.current().request is request
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            FlashcallTwoFactorMiddleware(fail)(RequestFactory().get("/"))
        assert visits.current() is None

    def test_requests_at_once_do_not_meet(self):
        async def answer(request):
            await asyncio.sleep(0)
            return visits.current().request is request

        middleware = FlashcallTwoFactorMiddleware(answer)

        async def ask():
            requests = [RequestFactory().get("/") for _ in range(20)]
            return await asyncio.gather(*map(middleware, requests))

        assert asyncio.run(ask()) == [True] * 20


def test_asynchronously(phone, outbox):
    """The package's own pages under ASGI."""

    async def log_in():
        client = AsyncClient()
        fields = {"auth-username": "ann", "auth-password": "secret"}
        fields["login_view-current_step"] = "auth"
        try:
            return [await client.post(LOGIN, fields) for _ in range(2)]
        finally:
            await sync_to_async(connections.close_all)()  # of the thread of the views

    first, second = map(Page, asyncio.run(log_in()))
    assert first.errors == []
    assert "We've just called this number." in second.errors[0]


class TestChecks:
    def ids(self):
        return [message.id.partition(".")[2] for message in checks.check_settings()]

    def test_all_is_right(self):
        assert self.ids() == []

    @pytest.mark.parametrize("path", [None, "two_factor.gateways.fake.Fake", "nowhere.Gateway"])
    def test_another_gateway(self, settings, path):
        settings.TWO_FACTOR_CALL_GATEWAY = path
        assert self.ids() == ["E111"]

    def test_a_gateway_made_of_ours(self, settings):
        settings.TWO_FACTOR_CALL_GATEWAY = f"{__name__}.OwnGateway"
        assert self.ids() == []

    def test_no_middleware(self, settings):
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        assert self.ids() == ["E112"]

    @pytest.mark.parametrize("digits", [4, 7, 8])
    def test_other_digits(self, settings, digits):
        settings.TWO_FACTOR_TOTP_DIGITS = digits
        assert self.ids() == ["E113"]

    def test_its_name_is_taken(self, configure):
        configure(PURPOSES={"signup": {}, "two-factor": {}})
        assert self.ids() == ["E114"]

    def test_voice_codes_alone(self, configure):
        configure(CHANNELS={"voice_code": ["default"]})
        assert self.ids() == ["E115"]

    def test_providers_that_choose_the_code(self, configure):
        path = "tests.test_codes_of_others.ChoosingBackend"
        configure(BACKENDS={"default": {"BACKEND": path}})
        assert self.ids() == ["E115"]

    def test_settings_that_another_check_reports(self, configure):
        configure(CHANNELS={"flash_call": ["gone"]})
        assert self.ids() == []


class OwnGateway(FlashCall):
    """A site's own, made of ours."""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{__name__}.OwnGateway", methods.FlashCallMethod),
        ("two_factor.gateways.fake.Fake", PhoneCallMethod),
    ],
)
def test_whose_words_are_used(settings, path, words):
    settings.TWO_FACTOR_CALL_GATEWAY = path
    assert type(registry.get_method("call")) is words
    settings.TWO_FACTOR_CALL_GATEWAY = None
    assert "call" not in [method.code for method in registry.get_methods()]
