"""The bridge to django-allauth, through the pages and the API of its released package."""

import json
import re

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver

from django_flashcall import services
from django_flashcall.contrib.allauth.checks import check_allauth, check_allauth_deployment
from django_flashcall.contrib.allauth.models import UnverifiedPhone
from django_flashcall.contrib.allauth.urls import non_atomic_include
from django_flashcall.exceptions import Misconfigured, NumberRejected, TemporaryFailure
from django_flashcall.models import Call, Phone, Refusal, Verification

from .documents import DOCS, blocks

NUMBER = "+79161234567"
OTHER = "+79161234568"
PASSWORD = "correct horse 9"
COOLED = {"COOLDOWN": 0}

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.allauth_site")]


@pytest.fixture(autouse=True)
def fresh_limits_of_allauth():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def without_limits_of_allauth(request, settings):
    """allauth's own limits of requests, but for the tests of them."""
    if request.cls is not TestLimitsOfAllauth:
        settings.ACCOUNT_RATE_LIMITS = False


@pytest.fixture(autouse=True)
def as_many_digits_as_the_site_says(settings):
    del settings.ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT


@pytest.fixture
def owner(django_user_model):
    """An account with a verified number and a password."""
    account = django_user_model.objects.create_user("anna", "anna@example.com", PASSWORD)
    Phone.objects.create(number=NUMBER, owner=account)
    return account


class Pages:
    """A visitor of allauth's pages."""

    def __init__(self):
        self.client = Client()
        self.page = None

    def post(self, path, **fields):
        self.page = self.client.post(f"/accounts/{path}", fields, follow=True)
        return self

    def get(self, path):
        self.page = self.client.get(f"/accounts/{path}", follow=True)
        return self

    def sign_up(self, phone=NUMBER, **fields):
        return self.post("signup/", phone=phone, password1=PASSWORD, **fields)

    @property
    def text(self):
        return self.page.content.decode()

    @property
    def path(self):
        return self.page.request["PATH_INFO"].removeprefix("/accounts/")

    @property
    def errors(self):
        return self.page.context["form"].errors.get_json_data()

    @property
    def user(self):
        return get_user_model().objects.filter(pk=self.client.session.get("_auth_user_id")).first()


class Api:
    """A client of allauth's headless API: an app, or a page of a browser."""

    def __init__(self, kind):
        self.kind, self.client, self.token, self.answer = kind, Client(), None, None

    def send(self, method, path, **data):
        headers = {"X-Session-Token": self.token} if self.token else {}
        self.answer = self.client.generic(
            method,
            f"/_allauth/{self.kind}/v1/{path}",
            json.dumps(data) if data else "",
            content_type="application/json",
            headers=headers,
        )
        meta = self.body.get("meta") or {}
        self.token = meta.get("session_token", self.token)
        return self.answer

    def post(self, path, **data):
        return self.send("POST", path, **data)

    @property
    def body(self):
        return json.loads(self.answer.content)

    @property
    def pending(self):
        return [flow["id"] for flow in self.body["data"]["flows"] if flow.get("is_pending")]


@pytest.fixture
def pages():
    return Pages()


@pytest.fixture(params=["app", "browser"])
def headless(request):
    return Api(request.param)


def phone_of(user):
    phone = services.phone_of(user)
    return phone and phone.number


class TestSignup:
    def test_the_number_is_called_and_verified(self, pages, outbox):
        pages.sign_up("8 (916) 123-45-67")
        assert pages.path == "phone/verify/"
        assert "We&#x27;re calling +79161234567. The code is the last 4 digits" in pages.text
        assert "The last 4 digits of the number that called you." in pages.text
        assert pages.user is None
        (call,) = outbox
        assert call.phone == NUMBER
        assert len(call.code) == 4
        account = get_user_model().objects.get()
        assert phone_of(account) is None
        pages.post("phone/verify/", code=call.code)
        assert pages.user == account
        assert phone_of(account) == NUMBER
        assert Phone.objects.get().verified_at is not None
        assert not UnverifiedPhone.objects.exists()
        verification = Verification.objects.get()
        assert (verification.purpose, verification.status) == ("allauth", "redeemed")
        assert verification.redeemed_by == account

    def test_a_wrong_code(self, pages, outbox):
        pages.sign_up()
        wrong = f"{(int(outbox[0].code) + 1) % 10_000:04}"
        pages.post("phone/verify/", code=wrong)
        assert pages.errors == {"code": [{"message": "Incorrect code.", "code": "incorrect_code"}]}
        assert "The last 4 digits of the number that called you." in pages.text
        assert not Phone.objects.get().verified_at

    def test_it_can_be_continued_after_a_login(self, pages, outbox, configure):
        configure(**COOLED)
        pages.sign_up(email="anna@example.com")
        later = Pages().post("login/", login="anna@example.com", password=PASSWORD)
        assert later.path == "phone/verify/"
        later.post("phone/verify/", code=outbox[-1].code)
        assert phone_of(later.user) == NUMBER

    def test_a_stranger_does_not_reserve_a_number(self, pages, outbox, configure):
        """Several accounts can claim it; the holder of the phone gets it, and their own account."""
        configure(**COOLED)
        stranger = pages.sign_up(email="stranger@example.com")
        holder = Pages().sign_up(email="anna@example.com")
        assert len(outbox) == 2
        holder.post("phone/verify/", code=outbox[1].code)
        assert holder.user.email == "anna@example.com"
        assert phone_of(holder.user) == NUMBER
        stranger.post("phone/verify/", code=outbox[0].code)
        assert stranger.errors["code"][0]["code"] == "phone_taken"
        assert stranger.user is None

    def test_a_stranger_does_not_prepare_an_account(self, pages, outbox, configure):
        """Who logs in by code must not get into an account that a stranger made with the number."""
        configure(**COOLED)
        pages.sign_up(email="stranger@example.com")
        holder = Pages().post("login/code/", phone=NUMBER)
        assert len(outbox) == 1
        for code in (outbox[0].code, "", "0000"):
            holder.post("login/code/confirm/", code=code)
        assert holder.user is None

    @pytest.mark.parametrize(
        ("number", "code"),
        [
            ("12", "invalid_phone"),
            ("+14155552671", "phone_not_allowed"),
            ("call me", "invalid_phone"),
        ],
    )
    def test_a_number_that_cannot_be_called(self, pages, outbox, number, code):
        pages.sign_up(number)
        assert pages.errors["phone"][0]["code"] == code
        assert not get_user_model().objects.exists()

    def test_a_limit_is_an_error_of_the_form(self, pages, outbox):
        pages.sign_up()
        second = Pages().sign_up()
        (error,) = second.errors["phone"]
        assert error["code"] == "cooldown"
        assert re.search(r"another call in \d+ seconds", error["message"])
        assert get_user_model().objects.count() == len(outbox) == 1
        assert Refusal.objects.get().scope == "number"

    def test_the_budget_is_spent(self, pages, outbox, configure):
        configure(CALLS_TOTAL="1/day")
        pages.sign_up(OTHER)
        second = Pages().sign_up()
        assert second.errors["phone"][0]["code"] == "too_many_calls"
        assert get_user_model().objects.count() == 1

    def test_the_sites_captcha(self, pages, outbox, configure):
        configure(CALLS_TOTAL="3/day", CHALLENGE="tests.test_contrib_allauth.never", **COOLED)
        pages.sign_up(OTHER)
        Pages().sign_up("+79161234569")
        third = Pages().sign_up()
        assert third.errors["phone"][0]["code"] == "challenge_required"

    @pytest.mark.parametrize("error", [TemporaryFailure, Misconfigured, NumberRejected])
    def test_the_call_fails(self, pages, monkeypatch, outbox, error):
        """The account exists by then: the next page shows why, and offers another call."""
        fail(monkeypatch, error())
        pages.sign_up()
        assert pages.path == "phone/verify/"
        assert "call" in str(*pages.page.context["messages"])
        assert "calling" not in pages.text
        assert 'value="resend"' in pages.text
        monkeypatch.undo()
        pages.post("phone/verify/", action="resend")
        pages.post("phone/verify/", code=outbox[0].code)
        assert phone_of(pages.user) == NUMBER

    def test_nobody_guesses_the_code_of_a_call_that_failed(self, pages, monkeypatch, outbox):
        fail(monkeypatch, NumberRejected())
        pages.sign_up()
        pages.post("phone/verify/", code=code_in(pages.client.session["account_login"]))
        assert pages.path == "login/"
        assert "The code has expired" in pages.text
        assert pages.user is None
        assert "account_authentication_methods" not in pages.client.session
        assert not Phone.objects.filter(verified_at__isnull=False).exists()

    def test_the_form_is_sent_twice(self, pages, outbox):
        pages.sign_up()
        twin = Client()
        twin.cookies = pages.client.cookies
        session = pages.client.session
        kept = dict(session.items())
        pages.post("phone/verify/", code=outbox[0].code)
        session = twin.session
        session.flush()
        session = Client().session
        session.update(kept)
        session.save()
        twin = Client()
        twin.cookies["sessionid"] = session.session_key
        Phone.objects.update(owner=None)  # as the slower request saw it
        Verification.objects.filter(redeemed_by=None).delete()
        answer = twin.post("/accounts/phone/verify/", {"code": outbox[0].code})
        assert answer.status_code == 302
        assert answer.url == "/accounts/profile/"

    def test_a_test_number(self, pages, outbox, configure):
        configure(TEST_NUMBERS={NUMBER: "123456"})
        pages.sign_up()
        assert "the last 6 digits" in pages.text
        pages.post("phone/verify/", code="123456")
        assert phone_of(pages.user) == NUMBER
        assert not outbox

    def test_six_digits(self, pages, outbox, settings):
        settings.ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT = {"numeric": True, "length": 6}
        pages.sign_up()
        assert len(outbox[0].code) == 6
        pages.post("phone/verify/", code=outbox[0].code)
        assert phone_of(pages.user) == NUMBER

    def test_another_number(self, pages, outbox, settings):
        settings.ACCOUNT_PHONE_VERIFICATION_SUPPORTS_CHANGE = True
        pages.sign_up(OTHER)
        pages.post("phone/verify/", action="change", phone="8 916 123 45 67")
        assert [call.phone for call in outbox] == [OTHER, NUMBER]
        pages.post("phone/verify/", code=outbox[1].code)
        assert phone_of(pages.user) == NUMBER

    def test_a_voice_reads_the_code(self, pages, outbox, configure):
        configure(CHANNELS={"voice_code": ["default"]})
        pages.sign_up()
        assert "a voice reads you the code" in pages.text
        assert "A voice reads you the code" in pages.text


def never(request):
    return False


def fail(monkeypatch, error):
    from django_flashcall.backends.locmem import LocmemBackend

    def place_call(self, request):
        raise error

    monkeypatch.setattr(LocmemBackend, "place_call", place_call)


def code_in(state):
    """Return the code in the state that allauth keeps."""
    return re.search(r"'code': '(\d+)'", str(state))[1]


class TestResend:
    def test_the_number_is_called_again(self, pages, outbox, configure):
        configure(**COOLED)
        pages.sign_up()
        pages.post("phone/verify/", action="resend")
        assert len(outbox) == 2
        pages.post("phone/verify/", code=outbox[1].code)
        assert phone_of(pages.user) == NUMBER

    @pytest.mark.parametrize("saves", [False, True])
    def test_a_refused_one_leaves_the_code_valid(self, pages, outbox, settings, saves):
        settings.SESSION_SAVE_EVERY_REQUEST = saves
        pages.sign_up()
        pages.post("phone/verify/", action="resend")
        assert pages.path == "phone/verify/"
        assert "We&#x27;ve just called this number." in pages.text
        assert len(outbox) == 1
        pages.post("phone/verify/", code=outbox[0].code)
        assert phone_of(pages.user) == NUMBER


def guess_at_once(pages, path, code, right_at):
    """Send wrong codes and then the right one; each finds the session as it was before the others.

    Args:
        pages: the visitor.
        path: where the code is entered.
        code: the right code.
        right_at: the place of the right code.
    """
    before = dict(pages.client.session.items())
    for n in range(1, right_at + 1):
        session = pages.client.session
        session.clear()
        session.update(before)
        session.save()
        guess = code if n == right_at else str(int(code[0]) ^ 1) + code[1:]
        pages.post(path, code=guess)


class TestLogin:
    def test_by_code(self, pages, outbox, owner):
        pages.post("login/code/", phone="8 916 123-45-67")
        assert pages.path == "login/code/confirm/"
        assert "We&#x27;re calling" in pages.text
        assert "The last 4 digits of the number that called you." in pages.text
        pages.post("login/code/confirm/", code=outbox[0].code)
        assert pages.user == owner
        assert phone_of(owner) == NUMBER
        assert Verification.objects.get().status == "redeemed"

    @pytest.mark.parametrize("right_at", [3, 4])
    def test_simultaneous_guesses_share_no_attempt(self, pages, outbox, owner, right_at):
        pages.post("login/code/", phone=NUMBER)
        guess_at_once(pages, "login/code/confirm/", outbox[0].code, right_at)
        assert (pages.user == owner) is (right_at == 3)

    def test_again(self, pages, outbox, owner, configure):
        configure(**COOLED)
        pages.post("login/code/", phone=NUMBER)
        pages.post("login/code/confirm/", action="resend")
        pages.post("login/code/confirm/", code=outbox[1].code)
        assert pages.user == owner

    @pytest.mark.parametrize("saves", [False, True])
    def test_refused_again(self, pages, outbox, owner, settings, saves):
        settings.SESSION_SAVE_EVERY_REQUEST = saves
        pages.post("login/code/", phone=NUMBER)
        pages.post("login/code/confirm/", action="resend")
        assert pages.path == "login/code/confirm/"
        assert "just called" in pages.text
        pages.post("login/code/confirm/", code=outbox[0].code)
        assert pages.user == owner

    def test_the_call_fails(self, pages, owner, monkeypatch):
        fail(monkeypatch, TemporaryFailure())
        pages.post("login/code/", phone=NUMBER)
        assert pages.path == "login/code/"
        assert "We can&#x27;t call you right now." in pages.text

    def test_by_password(self, pages, outbox, owner):
        Pages().post("login/code/", phone=NUMBER)
        pages.post("login/", login="8 916 123-45-67", password=PASSWORD)
        assert pages.user == owner
        assert len(outbox) == 1

    def test_by_a_code_sent_by_email(self, pages, outbox, owner, mailoutbox):
        from allauth.account.models import EmailAddress

        EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
        pages.post("login/code/", email=owner.email)
        assert len(mailoutbox) == 1
        assert not outbox
        assert "number that called" not in pages.text

    def test_without_passwords(self, pages, outbox, owner, settings):
        settings.ACCOUNT_SIGNUP_FIELDS = ["phone*"]
        settings.ACCOUNT_LOGIN_METHODS = {"phone"}
        pages.post("login/", login="8 916 123-45-67")
        assert pages.path == "login/code/confirm/"
        pages.post("login/code/confirm/", code=outbox[0].code)
        assert pages.user == owner

    def test_a_code_is_required_after_the_password(
        self, pages, outbox, django_user_model, settings
    ):
        settings.ACCOUNT_LOGIN_BY_CODE_REQUIRED = True
        account = django_user_model.objects.create_user("anna", password=PASSWORD)
        Phone.objects.create(number=NUMBER, owner=account)
        pages.post("login/", login=NUMBER, password=PASSWORD)
        assert pages.path == "login/code/confirm/"
        pages.post("login/code/confirm/", code=outbox[0].code)
        assert pages.user == account

    def test_a_refused_call_after_the_password(
        self, pages, outbox, django_user_model, settings, monkeypatch
    ):
        settings.ACCOUNT_LOGIN_BY_CODE_REQUIRED = True
        account = django_user_model.objects.create_user("anna", password=PASSWORD)
        Phone.objects.create(number=NUMBER, owner=account)
        fail(monkeypatch, TemporaryFailure())
        pages.post("login/", login=NUMBER, password=PASSWORD)
        assert pages.path == "login/code/confirm/"
        assert "We can&#x27;t call you right now." in pages.text
        stages = pages.client.session["account_login"]["state"]["stages"]
        assert stages["login_by_code"]["data"]["login_by_code_required"]  # allauth.mfa asks for it
        monkeypatch.undo()
        pages.post("login/code/confirm/", action="resend")
        pages.post("login/code/confirm/", code=outbox[0].code)
        assert pages.user == account

    def test_a_second_proof_of_the_same_person(self, pages, outbox, owner, settings):
        settings.SESSION_SAVE_EVERY_REQUEST = True
        pages.client.force_login(owner)
        pages.get("reauthenticate/code/")
        for _ in range(2):  # the second call is refused
            pages.post("reauthenticate/code/", recipient=NUMBER)
        assert len(outbox) == 1
        pages.post("reauthenticate/code/confirm/", code=outbox[0].code)
        methods = pages.client.session["account_authentication_methods"]
        assert [method["phone"] for method in methods] == [NUMBER]
        assert phone_of(owner) == NUMBER


class TestChange:
    def test_of_the_number(self, pages, outbox, owner, settings):
        settings.ACCOUNT_REAUTHENTICATION_REQUIRED = True
        pages.client.force_login(owner)
        pages.post("phone/change/", phone="8 916 123-45-68")
        assert pages.path == "reauthenticate/"
        pages.post("reauthenticate/?next=/accounts/phone/change/", password=PASSWORD)
        assert pages.path == "phone/verify/"
        assert "No call?" not in pages.text
        assert phone_of(owner) == NUMBER
        pages.post("phone/verify/", code=outbox[-1].code)
        assert pages.path == "phone/change/"
        assert phone_of(owner) == OTHER
        assert Phone.objects.get(number=NUMBER).owner is None
        assert Verification.objects.latest("created_at").user == owner

    def test_a_limit(self, pages, outbox, owner):
        Phone.objects.create(number=OTHER)
        services.place_call(OTHER, "1234", purpose="test")
        pages.client.force_login(owner)
        pages.post("phone/change/", phone=OTHER)
        assert pages.errors["phone"][0]["code"] == "cooldown"

    def test_a_failed_call(self, pages, owner, monkeypatch):
        reauthenticated(pages, owner)
        fail(monkeypatch, NumberRejected())
        pages.post("phone/change/", phone=OTHER)
        assert pages.path == "phone/change/"
        assert "We couldn&#x27;t call this number." in pages.text

    def test_to_the_number_of_another_account(self, pages, outbox, owner, django_user_model):
        """Who has the number proves it, and learns then that it is taken."""
        boris = django_user_model.objects.create_user("boris", password=PASSWORD)
        Phone.objects.create(number=OTHER, owner=boris)
        reauthenticated(pages, owner)
        pages.post("phone/change/", phone=OTHER)
        pages.post("phone/verify/", code=outbox[-1].code)
        assert pages.errors["code"][0]["code"] == "phone_taken"
        assert (phone_of(owner), phone_of(boris)) == (NUMBER, OTHER)

    def test_another_account_was_faster(self, pages, outbox, owner, django_user_model, monkeypatch):
        boris = django_user_model.objects.create_user("boris", password=PASSWORD)
        reauthenticated(pages, owner)
        pages.post("phone/change/", phone=OTHER)

        from tests.allauth_site import Adapter

        def get_user_by_phone(self, phone):
            Phone.objects.filter(number=OTHER).update(owner=boris)  # right after it was looked up

        monkeypatch.setattr(Adapter, "get_user_by_phone", get_user_by_phone)
        pages.post("phone/verify/", code=outbox[-1].code)
        assert pages.path == "phone/change/"
        assert "An account with this phone number already exists." in pages.text
        assert (phone_of(owner), phone_of(boris)) == (NUMBER, OTHER)


def reauthenticated(pages, account):
    pages.client.force_login(account)
    pages.post("reauthenticate/", password=PASSWORD)


@pytest.mark.parametrize("right_at", [3, 4])
def test_another_call_of_the_session_changes_nothing(outbox, owner, configure, right_at):
    configure(**COOLED)
    pages = Pages()
    reauthenticated(pages, owner)
    pages.post("phone/change/", phone=OTHER)
    code = outbox[-1].code
    pages.get("reauthenticate/code/")
    pages.post("reauthenticate/code/", recipient=NUMBER)
    assert len(outbox) == 2
    guess_at_once(pages, "phone/verify/", code, right_at)
    assert Phone.objects.filter(owner=owner, number=OTHER).exists() is (right_at == 3)


class TestWithoutAccount:
    """What a stranger sees is the same whether or not a number has an account."""

    @pytest.fixture(params=[True, False], ids=["known", "unknown"])
    def known(self, request, owner):
        if not request.param:
            owner.delete()
            Phone.objects.all().delete()
        return request.param

    def seen(self, pages):
        text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", pages.text)
        return pages.path, re.sub(r"\d+ second", "N second", text)

    def login(self, pages):
        """Every step that a stranger can take, with what they see."""
        steps = [("login/code/", {"phone": NUMBER})]
        steps += [("login/code/confirm/", {"action": "resend"})]
        steps += [("login/code/confirm/", {"code": "x"})] * 3
        steps += [("login/code/", {"phone": NUMBER})]
        return [self.seen(pages.post(path, **fields)) for path, fields in steps]

    def test_login(self, outbox, owner):
        known = self.login(Pages())
        assert len(outbox) == 1
        forget_everything()
        assert self.login(Pages()) == known
        assert len(outbox) == 1

    def test_login_through_the_api(self, outbox, owner):
        def steps():
            api = Api("browser")
            yield api.post("auth/code/request", phone=NUMBER)
            yield api.post("auth/code/resend")
            yield api.post("auth/code/confirm", code="x")
            yield api.post("auth/code/request", phone=NUMBER)
            yield Api("browser").post("auth/code/request", phone=NUMBER)

        def answers():
            for answer in steps():
                yield answer.status_code, re.sub(rb"\d+ second", b"N second", answer.content)

        known = list(answers())
        assert [status for status, _ in known] == [401, 429, 400, 400, 400]
        assert len(outbox) == 1
        forget_everything()
        assert list(answers()) == known
        assert len(outbox) == 1

    def test_signup(self, outbox, owner):
        def steps(pages):
            yield self.seen(pages.sign_up())
            yield self.seen(pages.post("phone/verify/", action="resend"))
            for _ in range(3):
                yield self.seen(pages.post("phone/verify/", code="x"))
            yield self.seen(pages.sign_up())

        known = list(steps(Pages()))
        assert not outbox
        assert get_user_model().objects.count() == 1
        forget_everything()
        assert list(steps(Pages())) == known
        assert len(outbox) == 1

    def test_the_same_statements(self, outbox, owner):
        """With workers, nobody waits for the provider, and the time does not tell either."""

        def statements():
            with CaptureQueriesContext(connection) as captured:
                pages = Pages().post("login/code/", phone=NUMBER)
                pages.post("login/code/confirm/", action="resend")
            tables = (re.findall(r"django_flashcall_\w+", query["sql"]) for query in captured)
            # A part of the hour's count is chosen at random, and may be new.
            return [names[0] for names in tables if names and "callcount" not in names[0]]

        Pages().post("login/code/", phone=OTHER)  # whatever is done once
        known = statements()
        forget_everything()
        Phone.objects.create(number=NUMBER)
        assert len(known) > 10
        assert statements() == known

    def test_no_call_is_placed_and_the_row_says_so(self, pages, outbox, configure):
        pages.post("login/code/", phone=NUMBER)
        assert not outbox
        call = Call.objects.get()
        assert (call.is_test, call.backend, call.status) == (True, "", "sent")
        assert call.verification.purpose == "allauth-no-account"

    def test_a_test_number(self, outbox, owner, configure):
        configure(TEST_NUMBERS={NUMBER: "123456"})
        known = self.login(Pages())
        forget_everything()
        assert self.login(Pages()) == known
        assert "the last 6 digits" in known[0][1]

    def test_the_limits_of_the_address_count_it(self, pages, outbox, configure):
        configure(CALLS_PER_IP="1/hour", **COOLED)
        pages.post("login/code/", phone=NUMBER)
        second = Pages().post("login/code/", phone=OTHER)
        assert second.errors["phone"][0]["code"] == "too_many_calls"

    def test_the_holder_signs_up_after_a_stranger_tried(self, pages, outbox, configure):
        configure(**COOLED)
        pages.sign_up()
        Pages().post("login/code/", phone=NUMBER)  # the number is not verified yet
        pages.post("phone/verify/", code=outbox[0].code)
        assert phone_of(pages.user) == NUMBER
        statuses = Verification.objects.values_list("purpose", "state")
        assert set(statuses) == {("allauth", "redeemed"), ("allauth-no-account", "pending")}

    def test_a_site_that_tells(self, pages, outbox, settings):
        settings.ACCOUNT_PREVENT_ENUMERATION = False
        pages.post("login/code/", phone=NUMBER)
        assert pages.errors["phone"][0]["code"] == "unknown_phone"
        assert not Call.objects.exists()


def forget_everything():
    """Delete all accounts and numbers."""
    get_user_model().objects.all().delete()
    Phone.objects.all().delete()
    Refusal.objects.all().delete()


class TestApi:
    """allauth's headless API."""

    def test_signup(self, headless, outbox):
        answer = headless.post("auth/signup", phone="8 916 123-45-67", password=PASSWORD)
        assert answer.status_code == 401
        assert headless.pending == ["verify_phone"]
        answer = headless.post("auth/phone/verify", code=outbox[0].code)
        assert answer.status_code == 200
        account = get_user_model().objects.get()
        assert headless.body["data"]["user"]["id"] == account.pk
        assert phone_of(account) == NUMBER

    @pytest.mark.parametrize(
        ("number", "code"), [("12", "invalid_phone"), ("+14155552671", "phone_not_allowed")]
    )
    def test_a_number_that_cannot_be_called(self, headless, number, code):
        answer = headless.post("auth/signup", phone=number, password=PASSWORD)
        assert answer.status_code == 400
        (error,) = headless.body["errors"]
        assert (error["param"], error["code"]) == ("phone", code)

    def test_a_limit(self, headless, outbox):
        headless.post("auth/signup", phone=NUMBER, password=PASSWORD)
        answer = Api(headless.kind).post("auth/signup", phone=NUMBER, password=PASSWORD)
        assert answer.status_code == 400
        assert json.loads(answer.content)["errors"][0]["code"] == "cooldown"
        assert get_user_model().objects.count() == 1

    def test_the_call_fails(self, headless, monkeypatch, outbox):
        """The account exists, so the flow goes on; another call can be requested."""
        fail(monkeypatch, TemporaryFailure())
        answer = headless.post("auth/signup", phone=NUMBER, password=PASSWORD)
        assert answer.status_code == 401
        assert headless.pending == ["verify_phone"]
        answer = headless.post("auth/phone/verify/resend")
        assert answer.status_code == 503
        assert answer["Retry-After"]
        assert headless.body["errors"][0]["code"] == "provider_unavailable"
        monkeypatch.undo()
        assert headless.post("auth/phone/verify/resend").status_code == 200
        assert headless.post("auth/phone/verify", code=outbox[0].code).status_code == 200

    @pytest.mark.urls("tests.allauth_api")
    def test_a_site_without_pages(self, headless, monkeypatch, outbox, settings):
        settings.HEADLESS_ONLY = True
        fail(monkeypatch, TemporaryFailure())
        headless.post("auth/signup", phone=NUMBER, password=PASSWORD)
        assert headless.pending == ["verify_phone"]
        monkeypatch.undo()
        headless.post("auth/phone/verify/resend")
        Verification.objects.update(state="cancelled")
        headless.post("auth/phone/verify", code=outbox[0].code)
        assert headless.answer.status_code == 400
        assert headless.body["errors"][0]["code"] == "expired"

    def test_resend(self, headless, outbox, configure):
        headless.post("auth/signup", phone=NUMBER, password=PASSWORD)
        answer = headless.post("auth/phone/verify/resend")
        assert answer.status_code == 429
        assert 1 <= int(answer["Retry-After"]) <= 60
        (error,) = headless.body["errors"]
        assert error["code"] == "cooldown"
        configure(**COOLED)
        assert headless.post("auth/phone/verify/resend").status_code == 200
        assert headless.post("auth/phone/verify", code=outbox[1].code).status_code == 200

    def test_login_by_code(self, headless, outbox, owner):
        assert headless.post("auth/code/request", phone=NUMBER).status_code == 401
        assert headless.pending == ["login_by_code"]
        assert headless.post("auth/code/resend").status_code == 429
        answer = headless.post("auth/code/confirm", code=outbox[0].code)
        assert answer.status_code == 200
        assert headless.body["data"]["user"]["id"] == owner.pk

    def test_a_login_code_that_is_not_called(self, headless, owner, monkeypatch):
        fail(monkeypatch, TemporaryFailure())
        answer = headless.post("auth/code/request", phone=NUMBER)
        assert answer.status_code == 503
        assert headless.body["errors"][0]["code"] == "provider_unavailable"

    def test_login_by_password(self, headless, outbox, owner):
        headless.post("auth/login", phone=NUMBER, password=PASSWORD)
        assert headless.answer.status_code == 200
        assert not outbox

    def test_change(self, headless, outbox, owner):
        headless.post("auth/login", phone=NUMBER, password=PASSWORD)
        headless.post("auth/reauthenticate", password=PASSWORD)
        answer = headless.post("account/phone", phone=OTHER)
        assert answer.status_code == 202
        assert headless.post("auth/phone/verify", code=outbox[0].code).status_code == 200
        headless.send("GET", "account/phone")
        assert headless.body["data"] == [{"phone": OTHER, "verified": True}]
        assert phone_of(owner) == OTHER

    def test_a_change_that_fails(self, headless, owner, monkeypatch):
        headless.post("auth/login", phone=NUMBER, password=PASSWORD)
        headless.post("auth/reauthenticate", password=PASSWORD)
        fail(monkeypatch, NumberRejected())
        answer = headless.post("account/phone", phone=OTHER)
        assert answer.status_code == 400
        (error,) = headless.body["errors"]
        assert (error["param"], error["code"]) == ("phone", "invalid_destination")


class TestLimitsOfAllauth:
    """Where allauth alone answers 500, because nothing catches its error."""

    def test_many_signups_from_one_address(self, outbox):
        for number in range(3):
            assert Pages().sign_up(f"+7916123450{number}").path == "phone/verify/"
        fourth = Pages().sign_up()
        assert fourth.errors["phone"][0]["code"] == "rate_limited"

    def test_many_logins_without_a_verified_number(self, outbox, configure, django_user_model):
        configure(**COOLED)
        Pages().sign_up(email="anna@example.com")
        later = Pages().post("login/", login="anna@example.com", password=PASSWORD)
        assert later.path == "phone/verify/"
        assert "you are sending too many requests" in later.text
        assert len(outbox) == 1


def test_a_forgotten_number(outbox, pages):
    pages.sign_up()
    services.forget(Phone.objects.get())
    assert not UnverifiedPhone.objects.exists()


def test_a_pruned_number_can_still_be_verified(outbox, pages):
    from datetime import timedelta

    from django.utils import timezone

    pages.sign_up()
    later = timezone.now() + timedelta(days=1)
    services.prune(before=later)
    assert not Phone.objects.exists()
    assert UnverifiedPhone.objects.count() == 1


def test_a_number_that_a_provider_of_logins_calls_verified(django_user_model):
    from tests.allauth_site import Adapter

    account = django_user_model.objects.create_user("anna")
    Adapter().set_phone(account, "8 916 123-45-67", True)
    assert Adapter().get_phone(account) == (NUMBER, False)
    assert Adapter().get_user_by_phone(NUMBER) is None
    assert Adapter().get_user_by_phone("call me") is None
    Adapter().set_phone(account, "unknown", True)
    assert Adapter().get_phone(account) == (NUMBER, False)


def test_the_code_is_masked(django_user_model):
    from tests.allauth_site import Adapter

    code = Adapter().generate_phone_verification_code(user=None, phone=NUMBER)
    assert code not in repr(code)


class TestTransactions:
    """With ``ATOMIC_REQUESTS``, calls need the URLs that `non_atomic_include` gives."""

    @pytest.fixture(autouse=True)
    def atomic_requests(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        # What another test included, the guide's among them, is marked in this whole process.
        for pattern in views_of(get_resolver("tests.allauth_site").url_patterns):
            vars(pattern.callback).pop("_non_atomic_requests", None)

    def test_the_check_finds_the_views(self):
        (message,) = [m for m in check_allauth() if m.id.endswith("E004")]
        assert "account_signup, account_login" in message.msg
        assert "headless:app:account:manage_phone" in message.msg

    @pytest.mark.django_db(transaction=True)
    def test_without_it_allauth_answers_500(self, outbox):
        with pytest.raises(RuntimeError):
            Pages().sign_up()

    @pytest.mark.django_db(transaction=True)
    def test_with_it_everything_works(self, outbox):
        non_atomic_include("allauth.urls")
        non_atomic_include("allauth.headless.urls")
        assert not check_allauth()
        pages = Pages().sign_up()
        pages.post("phone/verify/", code=outbox[0].code)
        assert phone_of(pages.user) == NUMBER
        headless = Api("app")
        headless.post("auth/signup", phone=OTHER, password=PASSWORD)
        assert headless.pending == ["verify_phone"]
        assert headless.post("auth/phone/verify", code=outbox[1].code).status_code == 200


def views_of(patterns):
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from views_of(pattern.url_patterns)
        else:
            yield pattern


def test_the_how_to(settings, outbox, pages):
    """The settings as they are documented, and the flow that the page promises."""
    (block,) = [
        block
        for block in blocks(DOCS / "how-to" / "allauth.md")
        if block.caption == "mysite/settings.py"
    ]
    documented = {"INSTALLED_APPS": []}
    exec(block.text, {}, documented)
    assert set(documented.pop("INSTALLED_APPS")) <= set(settings.INSTALLED_APPS)
    assert documented.pop("ACCOUNT_ADAPTER") == "people.adapter.Adapter"
    for name, value in documented.items():
        setattr(settings, name, value)
    assert not check_allauth()
    assert [message.id[-4:] for message in check_allauth_deployment()] == ["W001"]
    pages.sign_up()
    pages.post("phone/verify/", code=outbox[0].code)
    assert pages.user.verified_phone.number == NUMBER


class TestChecks:
    def ids(self, deploy=False):
        found = check_allauth_deployment() if deploy else check_allauth()
        return [message.id.rpartition(".")[2] for message in found]

    def test_nothing_is_wrong(self, settings):
        assert self.ids() == []
        assert self.ids(deploy=True) == ["W001"]
        settings.ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT = {"numeric": True, "length": 6}
        assert self.ids() == self.ids(deploy=True) == []

    def test_another_adapter(self, settings):
        settings.ACCOUNT_ADAPTER = "allauth.account.adapter.DefaultAccountAdapter"
        assert self.ids() == ["E001"]

    @pytest.mark.parametrize(
        "code_format",
        [{"numeric": True}, {"length": 6}, {"numeric": True, "length": 5}, {"dashed": False}],
    )
    @pytest.mark.parametrize(
        "name", ["ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT", "ALLAUTH_USER_CODE_FORMAT"]
    )
    def test_codes_that_no_call_can_bring(self, settings, name, code_format):
        setattr(settings, name, code_format)
        assert self.ids() == ["E002"]

    def test_providers_that_choose(self, configure):
        configure(BACKENDS={"default": {"BACKEND": "tests.test_codes_of_others.ChoosingBackend"}})
        assert self.ids() == ["E003"]

    def test_a_voice_has_four_digits(self, configure, settings):
        configure(CHANNELS={"voice_code": ["default"]})
        assert self.ids() == []
        settings.ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT = {"numeric": True, "length": 6}
        assert self.ids() == ["E003"]

    def test_other_checks_report_what_is_wrong_with_ours(self, configure):
        configure(CHANNELS={"flash_call": ["nobody"]})
        assert self.ids() == []

    def test_codes_in_cookies(self, settings):
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        assert self.ids() == ["E005"]

    def test_numbers_that_are_never_verified(self, settings):
        settings.ACCOUNT_PHONE_VERIFICATION_ENABLED = False
        assert self.ids() == ["E006"]

    @pytest.mark.parametrize("name", ["allauth", "allauth-no-account"])
    def test_a_purpose_with_the_name_of_its_calls(self, configure, name):
        configure(PURPOSES={"signup": {}, name: {}})
        assert self.ids() == ["E007"]

    def test_any_other_purpose(self, configure):
        configure(PURPOSES={"another": {}})
        assert self.ids() == []
        services.check_limits(NUMBER)

    def test_four_digits_do_not_log_in(self, settings):
        settings.ACCOUNT_LOGIN_BY_CODE_ENABLED = False
        assert self.ids(deploy=True) == []
        settings.ACCOUNT_SIGNUP_FIELDS = ["phone*"]
        assert self.ids(deploy=True) == ["W001"]
        settings.ACCOUNT_LOGIN_METHODS = {"email"}
        assert self.ids(deploy=True) == []

    def test_no_second_call(self, settings):
        settings.ACCOUNT_PHONE_VERIFICATION_SUPPORTS_RESEND = False
        settings.ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND = False
        (message,) = [m for m in check_allauth_deployment() if m.id.endswith("W002")]
        assert "PHONE_VERIFICATION_SUPPORTS_RESEND, ACCOUNT_LOGIN_BY" in message.msg
