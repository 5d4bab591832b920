"""The pages, through Django's client: each way through them, each error, and who sees what."""

import re
from datetime import timedelta
from functools import partial
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.views.generic import View

from django_flashcall import services
from django_flashcall.decorators import PhoneVerifiedRequiredMixin, phone_verified_required
from django_flashcall.models import Call, Phone, Verification
from django_flashcall.protection import visitors

from .test_provider import ANSWERS, number
from .test_secrecy import shows

pytestmark = pytest.mark.django_db

START = "/phone/"
SIGNUP = "/phone/signup/"
DONE = "/phone/done/"
NUMBER = "+79161234567"
ANN = {"username": "ann", "email": "ann@example.com", "password": "correct horse 9"}


@pytest.fixture
def client(outbox):
    """A visitor, whose browser is sent nothing that it might store."""

    class Visitor(Client):
        def request(self, **request):
            response = super().request(**request)
            if response.status_code != 403:  # that page is Django's
                assert response["Cache-Control"] == "no-store"
            return response

    return Visitor()


@pytest.fixture
def user(client):
    user = get_user_model().objects.create_user(username="ann", password="correct horse 9")
    client.force_login(user)
    return user


def start(client, phone=NUMBER, query="", **data):
    """Ask for a call; return the URL of the page that the code is typed into."""
    response = client.post(START + query, {"phone": phone, **data})
    assert response.status_code == 302, errors(response)
    return response.url


def errors(response):
    """What a page says went wrong, by field."""
    form = response.context.get("form")
    return {field: [str(e) for e in found] for field, found in form.errors.items()} if form else {}


def wrong(code):
    return "1" * len(code) if code[0] == "0" else "0" * len(code)


def words(response):
    """The text of a page as it is read."""
    text = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", text.replace("&#x27;", "'"))


def later(seconds):
    """Let time pass, as the rows tell it."""
    passed = timedelta(seconds=seconds)
    Call.objects.update(created_at=timezone.now() - passed)
    Phone.objects.update(last_called_at=timezone.now() - passed)


def test_the_whole_way(client, outbox):
    response = client.get(SIGNUP)
    assert response.url == f"{START}?next={quote(SIGNUP, safe='')}"
    page = client.get(response.url)
    assert 'type="tel"' in page.content.decode()
    assert 'autocomplete="tel"' in page.content.decode()

    check = start(client, "8 (916) 123-45-67", f"?next={SIGNUP}")
    assert "9161234567" not in check
    page = client.get(check)
    html = page.content.decode()
    assert "+7******4567" in html
    assert NUMBER not in html
    assert 'autocomplete="one-time-code"' in html
    assert 'inputmode="numeric"' in html
    assert "Enter the last 4 digits" in words(page)

    response = client.post(check, {"code": outbox[0].code})
    assert response.url == SIGNUP
    page = client.get(response.url)
    assert "+7******4567" in page.content.decode()
    assert set(page.context["form"].fields) == {"username", "email", "password"}

    response = client.post(SIGNUP, ANN)
    assert response.url == DONE
    user = get_user_model().objects.get()
    assert user.check_password("correct horse 9")
    assert Phone.objects.get().owner == user
    page = client.get(DONE)
    assert page.context["user"] == user  # logged in
    assert "Your number is verified" in words(page)
    # Back to where they were: onwards from each of the pages.
    assert client.get(SIGNUP).url == DONE
    assert "This number is already verified." in words(client.get(check))


def test_without_next_the_way_ends_at_done_which_leads_to_the_account(client, outbox):
    check = start(client)
    assert client.post(check, {"code": outbox[0].code}).url == DONE
    assert f'href="{SIGNUP}"' in client.get(DONE).content.decode()


@pytest.mark.parametrize("path", [DONE, SIGNUP])
def test_what_comes_after_leads_back_to_the_beginning(client, path):
    assert client.get(path).url.startswith(START)


def test_neither_token_nor_code_stands_in_a_page_or_url(client, outbox, configure):
    configure(CODE_LENGTH=6)  # a code of four digits could be the length of a field
    check = start(client)
    response = client.post(check, {"code": outbox[0].code})
    (token,) = client.session["django_flashcall_tokens"].values()
    for seen in (response.url, *(client.get(url).content.decode() for url in (DONE, SIGNUP))):
        assert token not in seen
        assert not shows(outbox[0].code, seen)


@pytest.mark.parametrize(
    "next_url",
    ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"],
)
def test_an_unsafe_next_is_not_followed(client, outbox, next_url):
    check = start(client, query=f"?next={quote(next_url)}")
    assert "evil" not in check
    assert client.post(f"{check}?next={quote(next_url)}", {"code": outbox[0].code}).url == DONE


# What can go wrong with a number.


@pytest.mark.parametrize("phone", ["", "  ", "12", "nonsense", "+7 916 123-45-67 ext. 5", "\x00"])
def test_what_is_no_number(client, api, outbox, phone):
    response = client.post(START, {"phone": phone})
    said = api.post("/api/verifications/", {"phone": phone}, format="json").json()
    assert errors(response) == {"phone": said["phone"]}
    html = response.content.decode()
    assert 'aria-invalid="true"' in html
    assert 'aria-describedby="id_phone_error"' in html
    assert outbox == []


@pytest.mark.parametrize("code", sorted(ANSWERS))
def test_each_error_of_the_provider_in_the_words_of_the_api(client, api, provider, code):
    ending = 9900 + code % 100
    page = client.post(START, {"phone": number(ending)})
    phone = number(ending).replace("+7916", "+7917")
    said = api.post("/api/verifications/", {"phone": phone}, format="json").json()
    field = "phone" if "phone" in said else "non_field_errors"
    assert errors(page) == {field.replace("non_field_errors", "__all__"): said[field]}
    assert said[field][0] in words(page)
    assert number(ending) in page.content.decode()  # what was typed is there to be mended


@pytest.mark.parametrize("ending", [9920, 9921, 9925, 9931])
def test_an_unknown_outcome(client, provider, ending):
    check = start(client, number(ending))
    page = client.get(check)
    assert re.search(
        r"If your phone rang, enter the digits\. "
        r"If it didn't, you can request another call in \d+ sec\.",
        words(page),
    )
    code = provider.last_call(number(ending)).code
    assert client.post(check, {"code": code}).url == DONE


def test_the_way_of_calling_is_asked_for_where_there_is_a_choice(client, provider):
    page = client.get(START)
    assert "How should we verify your number?" in words(page)
    check = start(client, channel="voice_code")
    assert "Enter the code you hear" in words(client.get(check))
    assert client.post(check, {"code": provider.last_call(NUMBER).code}).url == DONE
    response = client.post(START, {"phone": number(1111), "channel": "pigeon"})
    assert errors(response) == {"channel": ["This type of call isn't available."]}


def test_without_a_choice_it_is_not(client):
    assert set(client.get(START).context["form"].fields) == {"phone"}


def test_another_purpose(client, outbox, configure):
    configure(PURPOSES={"signup": {}, "login": {"CODE_LENGTH": 6}})
    check = start(client, query="?purpose=login")
    assert Verification.objects.get().purpose == "login"
    page = client.get(check)
    assert "Enter the last 6 digits" in words(page)
    assert client.post(f"{check}cancel/").url == "/phone/login/"


def test_cancelling_for_a_purpose_of_the_site(client, outbox, configure):
    configure(PURPOSES={"signup": {}, "order": {}})
    check = start(client, query="?purpose=order")
    assert client.post(f"{check}cancel/").url == f"{START}?purpose=order"


def test_no_such_purpose(client, outbox):
    response = client.post(f"{START}?purpose=nonsense", {"phone": NUMBER})
    assert errors(response) == {"__all__": ["Unknown purpose."]}


def test_the_same_number_again_leads_to_the_call_that_was_just_placed(client, outbox):
    check = start(client)
    assert f'href="{check}"' in client.get(START).content.decode()
    assert start(client) == check
    assert len(outbox) == 1


def test_the_number_of_somebody_elses_call(client, outbox):
    start(client)
    response = Client().post(START, {"phone": NUMBER})
    assert (
        "We've just called this number. You can request another call in"
        in errors(response)["__all__"][0]
    )


def says_no(request):
    return False


def test_the_challenge_of_the_site(client, outbox, configure):
    check = start(client)
    later(61)
    configure(CALLS_TOTAL="1/day", CHALLENGE=f"{__name__}.says_no")
    said = {"__all__": ["Confirm that you're not a robot, then try again."]}
    assert errors(client.post(START, {"phone": number(1111)})) == said
    client.post(f"{check}resend/")
    assert errors(client.get(check)) == said
    assert len(outbox) == 1


# What can go wrong with a code.


def test_a_wrong_code_is_said_once_and_not_sent_again_by_a_reload(client, outbox):
    check = start(client)
    response = client.post(check, {"code": wrong(outbox[0].code)})
    assert response.url == check
    page = client.get(check)
    assert errors(page) == {"code": ["Wrong code. 2 attempts left."]}
    html = page.content.decode()
    assert 'aria-invalid="true"' in html
    assert re.search(r'<input [^>]*name="code"[^>]*aria-describedby="id_code_error"', html)
    assert re.search(r'<input [^>]*name="code"[^>]*autofocus', html)
    assert errors(client.get(check)) == {}
    assert Verification.objects.get().attempts_left == 2
    assert client.post(check, {"code": outbox[0].code}).url == DONE


@pytest.mark.parametrize("typed", ["", " ", "123", "12345", "abcd", "12\x0034"])
def test_what_is_no_code_spends_no_attempt(client, typed):
    check = start(client)
    client.post(check, {"code": typed})
    assert errors(client.get(check)) == {"code": ["Enter the 4-digit code."]}
    assert Verification.objects.get().attempts_left == 3


def test_a_code_as_people_paste_it(client, configure):
    configure(TEST_NUMBERS={NUMBER: "0042"})
    check = start(client)
    assert client.post(check, {"code": " ٠٠-42\u2009"}).url == DONE


def test_all_attempts_used(client, outbox):
    check = start(client)
    for _ in range(3):
        client.post(check, {"code": wrong(outbox[0].code)})
    page = client.get(check)
    assert "Wrong code. You have no attempts left. Start again." in words(page)
    assert "Start again" in words(page)
    assert "Too many wrong codes." in words(client.get(check))
    client.post(check, {"code": outbox[0].code})
    assert "Too many wrong codes." in words(client.get(check))


def test_expired(client, outbox):
    check = start(client)
    Verification.objects.update(expires_at=timezone.now())
    for _ in range(2):
        assert "The code has expired. Start again." in words(client.get(check))
        assert client.post(check, {"code": outbox[0].code}).url == check


def test_change_of_number(client, outbox):
    check = start(client, query="?next=/there/")
    response = client.post(f"{check.partition('?')[0]}cancel/?next=/there/")
    assert response.url == f"{START}?next=%2Fthere%2F"
    assert Verification.objects.get().status == "cancelled"
    page = client.get(check)
    assert "You cancelled this verification. Start again." in words(page)
    assert f'href="{START}?next=%2Fthere%2F"' in page.content.decode()
    assert client.get(START).context["waiting"] is None


def test_pressed_twice(client, outbox):
    check = start(client)
    assert client.post(check, {"code": outbox[0].code}).url == DONE
    response = client.post(check, {"code": outbox[0].code})
    assert client.get(response.url).url == DONE


def test_another_tab_that_was_verified_meanwhile(client, outbox):
    check = start(client)
    client.post(check, {"code": outbox[0].code})
    assert client.get(check).url == DONE
    assert client.get(f"{check}resend/").url == check
    response = client.post(f"{check}resend/")
    assert client.get(response.url).url == DONE


# Another call.


def test_another_call(client, outbox):
    check = start(client)
    later(61)
    assert "You can request another call now." in words(client.get(check))
    assert client.post(f"{check}resend/").url == check
    assert len(outbox) == 2
    assert client.post(check, {"code": outbox[1].code}).url == DONE


def test_another_call_too_soon(client, outbox):
    check = start(client)
    page = client.get(check)
    assert re.search(r"You can request another call in \d+ sec\.", words(page))
    assert client.post(f"{check}resend/").url == check
    page = client.get(check)
    assert (
        "We've just called this number. You can request another call in"
        in errors(page)["__all__"][0]
    )
    assert re.search(r'<div [^>]*role="alert"[^>]*autofocus', page.content.decode())
    assert errors(client.get(check)) == {}
    assert len(outbox) == 1


def test_by_voice(client, provider):
    check = start(client)
    later(61)
    assert "Get the code by voice call" in words(client.get(check))
    client.post(f"{check}resend/", {"channel": "voice_code"})
    page = client.get(check)
    assert "Enter the code you hear" in words(page)
    assert "Get a missed call instead" in words(page)
    assert client.post(check, {"code": provider.last_call(NUMBER).code}).url == DONE


def test_a_rejected_call_leaves_the_page_of_the_one_before(client, provider):
    from django_flashcall.simulator import Answer

    check = start(client)
    code = provider.last_call(NUMBER).code
    later(61)
    provider.script(Answer.error(6))
    client.post(f"{check}resend/", {"channel": "voice_code"})
    page = client.get(check)
    assert errors(page) == {
        "__all__": ["We can't call you right now. Please try again in a few minutes."]
    }
    assert "Enter the last 4 digits" in words(page)
    assert client.post(check, {"code": code}).url == DONE


def test_no_calls_left(client, configure):
    configure(MAX_CALLS=1)
    check = start(client)
    later(61)
    assert "another call" not in words(client.get(check))
    client.post(f"{check}resend/")
    said = "No more calls are available. Enter the code or start again."
    assert errors(client.get(check)) == {"__all__": [said]}


@pytest.mark.parametrize("action", ["resend/", "cancel/"])
def test_an_action_reached_by_address_does_nothing(client, outbox, action):
    check = start(client)
    assert client.get(check + action).url == check
    assert len(outbox) == 1
    assert Verification.objects.get().is_pending


@pytest.mark.parametrize(
    ("error_code", "advice"),
    [
        ("busy", "Your line was busy."),
        ("absent_subscriber", "Your phone is off or has no signal."),
        ("not_provisioned", "This number can't receive these calls."),
        ("failure", "The call didn't go through."),
        ("unknown", "The call didn't go through."),
        ("new_word", "The call didn't go through."),
    ],
)
def test_a_call_that_was_not_delivered(client, error_code, advice):
    check = start(client)
    Call.objects.update(status="undelivered", error_code=error_code)
    assert advice in words(client.get(check))
    state = client.get(check, headers={"accept": "application/json"}).json()
    assert state["call"] == {"status": "undelivered", "error_code": error_code}
    assert state["hint"].startswith(advice)


def test_the_state_for_the_script(client):
    check = start(client)
    response = client.get(check, headers={"accept": "application/json"})
    assert "Accept" in response["Vary"]
    state = response.json()
    assert state["status"] == "pending"
    assert state["call"] == {"status": "sent", "error_code": None}
    assert state["hint"] is None
    assert 50 <= state["resend_in"] <= 60
    assert 250 <= state["expires_in"] <= 300
    Verification.objects.update(expires_at=timezone.now())
    state = client.get(check, headers={"accept": "application/json"}).json()
    assert (state["status"], state["resend_in"], state["expires_in"]) == ("expired", None, 0)


def test_the_state_costs_a_statement(client, django_assert_num_queries):
    check = start(client)
    with django_assert_num_queries(2):  # one for the session
        client.get(check, headers={"accept": "application/json"})


# Who may go on.


def test_the_pages_are_open_where_all_others_need_a_login(client, settings):
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, required]
    assert client.get(start(client)).status_code == 200


@pytest.mark.parametrize("action", ["", "resend/", "cancel/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_somebody_elses_verification(client, outbox, action, method):
    check = start(client)
    stranger = Client()
    start(stranger, number(1111))
    response = getattr(stranger, method)(check + action, {"code": outbox[0].code})
    assert response.status_code == 404
    assert "This page is no longer available" in words(response)
    assert "Start again" in words(response)
    assert "4567" not in response.content.decode()
    assert Verification.objects.earliest("created_at").is_pending
    response = stranger.get(check, headers={"accept": "application/json"})
    assert (response.status_code, response.json()) == (404, {"status": "not_found"})


def test_an_expired_session(client, outbox):
    check = start(client)
    client.cookies.clear()
    assert "your session has ended" in words(client.post(check, {"code": outbox[0].code}))


def test_the_session_is_another_after_success(client, outbox):
    check = start(client)
    key, value = client.session.session_key, client.session[visitors.SESSION_KEY]
    thief = Client()
    thief.cookies["sessionid"] = key  # planted with the visitor
    client.post(check, {"code": outbox[0].code})
    assert client.session.session_key != key
    assert client.session[visitors.SESSION_KEY] != value
    assert thief.get(check).status_code == 404
    assert thief.get(SIGNUP).url.startswith(START)
    (token,) = client.session["django_flashcall_tokens"].values()
    with pytest.raises(services.FlashcallError):
        services.read_token(token, session=value)


def test_numbers_for_two_purposes_in_one_session(client, outbox, configure):
    configure(PURPOSES={"signup": {}, "order": {}, "delivery": {}}, COOLDOWN=0)
    for purpose in ("order", "delivery", "signup"):
        check = start(client, query=f"?purpose={purpose}")
        client.post(check, {"code": outbox[-1].code})
        if purpose == "delivery":
            Verification.objects.filter(purpose=purpose).update(state="redeemed")
    tokens = client.session["django_flashcall_tokens"]
    assert tokens.keys() == {"order", "signup"}
    value = client.session[visitors.SESSION_KEY]
    for purpose, token in tokens.items():
        assert services.redeem(token, purpose=purpose, session=value)


@pytest.mark.django_db(transaction=True)
class TestTheDatabaseFailsAfterARightCode:
    """The form can be sent again: the visitor keeps the session, and nothing is lost."""

    def failing(self, words):
        def execute(execute, sql, *args):
            if words in sql:
                raise OperationalError("server closed the connection")
            return execute(sql, *args)

        return connection.execute_wrapper(execute)

    def test_of_a_user(self, client, user, outbox):
        check = start(client, query="?purpose=change")
        with self.failing('"owner_id" = '):
            assert client.post(check, {"code": outbox[0].code}).status_code == 503
        assert client.post(check, {"code": outbox[0].code}).status_code == 302
        assert Phone.objects.get().owner == user

    def test_of_a_visitor(self, client, outbox):
        check = start(client)
        with self.failing("DELETE FROM"):  # of the old session
            assert client.post(check, {"code": outbox[0].code}).status_code == 503
        # Somebody who planted the session could be faster than a request that still renews it.
        soon = client.post(check, {"code": outbox[0].code})
        assert (soon.status_code, soon["Retry-After"]) == (503, "5")
        assert "django_flashcall_tokens" not in client.session
        Verification.objects.update(verified_at=timezone.now() - timedelta(seconds=5))
        assert client.post(check, {"code": outbox[0].code}).url == DONE
        assert client.post(SIGNUP, ANN).url == DONE
        assert Phone.objects.get().owner.username == "ann"

    @pytest.mark.parametrize("code", ["", "x", "123456"])
    def test_none_for_whoever_knows_the_id(self, client, outbox, configure, code):
        """An app without cookies started it and entered the code, and has yet to log in."""
        owner = get_user_model().objects.create_user("owner")
        phone = Phone.objects.create(number=NUMBER, owner=owner)
        verification = services.start(NUMBER, purpose="login")
        token = services.check(verification, outbox[0].code)
        Verification.objects.update(verified_at=timezone.now() - timedelta(seconds=60))
        path = f"/phone/{verification.pk}/"
        assert client.post(path, {"code": code}).url == path
        assert "_auth_user_id" not in client.session
        assert "django_flashcall_tokens" not in client.session
        assert services.redeem(token, purpose="login") == phone

    def test_no_other_token_after_it_was_redeemed_or_too_late(self, client, outbox):
        check = start(client)
        client.post(check, {"code": outbox[0].code})
        session = client.session
        del session["django_flashcall_tokens"]
        session.save()
        Verification.objects.update(verified_at=timezone.now() - timedelta(seconds=601))
        assert client.post(check, {"code": outbox[0].code}).url == check
        assert "django_flashcall_tokens" not in client.session
        Verification.objects.update(verified_at=timezone.now(), state="redeemed")
        assert client.post(check, {"code": outbox[0].code}).url == check
        assert "django_flashcall_tokens" not in client.session


class TestDone:
    def test_for_a_purpose_of_the_site(self, client, outbox, configure):
        configure(PURPOSES={"signup": {}, "order": {}})
        check = start(client, query="?purpose=order")
        assert client.post(check, {"code": outbox[0].code}).url == DONE
        said = words(client.get(DONE))
        assert "+7******4567" in said
        assert "Create account" not in said

    def test_the_number_that_was_verified_and_not_that_of_the_account(
        self, client, user, outbox, configure
    ):
        configure(PURPOSES={"signup": {}, "order": {}})
        Phone.objects.create(number="+79160000001", owner=user)
        client.post(start(client, query="?purpose=order"), {"code": outbox[0].code})
        assert "+7******4567" in words(client.get(DONE))

    def test_an_account_that_is_not_logged_in(self, client, outbox, settings):
        client.post(start(client), {"code": outbox[0].code})
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.BaseBackend"]
        assert client.post(SIGNUP, ANN).url == DONE
        said = words(client.get(DONE))
        assert "+7******4567" in said
        assert "Create account" not in said


def test_an_empty_code_when_it_is_too_late(client, outbox):
    check = start(client)
    Verification.objects.update(expires_at=timezone.now())
    said = words(client.get(client.post(check, {"code": ""}).url))
    assert "The code has expired." in said


class TestWithoutThePurposeSignup:
    @pytest.fixture(autouse=True)
    def purposes(self, configure):
        configure(PURPOSES={"login": {"CODE_LENGTH": 6}, "change": {}})

    def test_no_account_is_offered(self, client):
        assert "Create account" not in words(client.get("/phone/login/"))

    def test_who_is_logged_in_verifies_a_number(self, client, user, rf):
        request = rf.get("/x/")
        request.user = user
        response = phone_verified_required(lambda request: None)(request)
        assert response.url == "/phone/number/change/?next=/x/"
        assert client.get(response.url).status_code == 200


def test_a_channel_that_is_not_offered_any_more(client, outbox, configure):
    configure(CHANNELS={"voice_code": ["default"], "flash_call": ["default"]}, COOLDOWN=0)
    check = start(client, channel="voice_code")
    configure(CHANNELS={"flash_call": ["default"]})
    services.resend(Verification.objects.get())
    assert outbox[-1].channel == Verification.objects.get().channel == "flash_call"
    client.post(f"{check}resend/", {"channel": "voice_code"})
    assert "This type of call isn't available." in words(client.get(check))


def test_no_voice_for_six_digits_after_the_setting_was_changed(client, configure, outbox):
    configure(CODE_LENGTH=6, CHANNELS={"voice_code": ["default"], "flash_call": ["default"]})
    start(client)
    configure(CODE_LENGTH=4)
    assert Verification.objects.get().channels == ["flash_call"]
    with pytest.raises(services.FlashcallError):
        services.resend(Verification.objects.get(), channel="voice_code")


def test_what_a_user_started(client, user, outbox):
    check = start(client)
    assert Verification.objects.get().user == user
    stranger = Client()
    stranger.force_login(get_user_model().objects.create_user(username="eve"))
    assert stranger.get(check).status_code == 404


def test_a_users_number_is_theirs_at_once(client, user, outbox):
    first = Phone.objects.create(number="+79990000001", owner=user)
    check = start(client, query="?next=/profile/")
    assert client.post(check, {"code": outbox[0].code}).url == "/profile/"
    user.refresh_from_db()
    assert user.verified_phone.number == NUMBER
    first.refresh_from_db()
    assert first.owner is None
    assert "+7******4567" in client.get(DONE).content.decode()


def test_a_number_that_another_account_has(client, user, outbox):
    eve = get_user_model().objects.create_user(username="eve")
    Phone.objects.create(number=NUMBER, owner=eve)
    check = start(client)
    assert client.post(check, {"code": outbox[0].code}).url == "/phone/taken/"
    assert Phone.objects.get(number=NUMBER).owner == eve


def test_a_users_number_for_another_purpose_waits_for_the_site(client, user, outbox, configure):
    configure(PURPOSES={"signup": {}, "order": {}})
    check = start(client, query="?purpose=order&next=/in/")
    assert client.post(check, {"code": outbox[0].code}).url == "/in/"
    assert Phone.objects.get().owner is None


def test_errors_do_not_undo_counts_under_atomic_requests(
    transactional_db, client, outbox, monkeypatch
):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    check = start(client)
    client.post(check, {"code": wrong(outbox[0].code)})
    assert Verification.objects.get().attempts_left == 2
    assert client.post(f"{check}resend/").url == check


@pytest.mark.parametrize("path", ["", "resend/", "cancel/"])
def test_forms_of_foreign_pages_are_refused(client, outbox, settings, path):
    # Even where the site has no middleware for it.
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
    check = start(client)
    client.handler.enforce_csrf_checks = True
    assert client.post(check + path, {"code": outbox[0].code}).status_code == 403
    assert client.post(START, {"phone": number(1111)}).status_code == 403
    assert Verification.objects.get().attempts_left == 3


# The account.


@pytest.fixture
def verified(client, outbox):
    check = start(client, query=f"?next={SIGNUP}")
    assert client.post(check, {"code": outbox[0].code}).url == SIGNUP


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "not a name!"}, "username"),
        ({"email": "nonsense"}, "email"),
        ({"password": "123"}, "password"),
        ({"password": "ann@example.com"}, "password"),
        ({"password": ""}, "password"),
    ],
)
def test_a_refused_signup_spends_nothing(client, verified, changes, field):
    response = client.post(SIGNUP, {**ANN, **changes})
    assert set(errors(response)) == {field}
    assert "correct horse" not in response.content.decode()
    assert not get_user_model().objects.exists()
    assert client.post(SIGNUP, ANN).url == DONE


def test_what_the_model_allows_to_be_blank_is_optional(client, verified):
    assert client.post(SIGNUP, {**ANN, "email": ""}).url == DONE
    assert get_user_model().objects.get().email == ""


def test_a_taken_name(client, verified):
    get_user_model().objects.create_user(username="ann")
    assert set(errors(client.post(SIGNUP, ANN))) == {"username"}
    assert client.post(f"{SIGNUP}?next=/in/", {**ANN, "username": "eve"}).url == "/in/"


def test_a_taken_number(client, verified):
    eve = get_user_model().objects.create_user(username="eve")
    assert client.get(SIGNUP).status_code == 200
    Phone.objects.update(owner=eve)
    assert client.post(SIGNUP, ANN).url == "/phone/taken/"
    assert client.get(SIGNUP).url.startswith(START)
    assert get_user_model().objects.count() == 1


def test_a_signup_that_took_too_long(client, verified):
    Verification.objects.update(state="redeemed")
    response = client.post(SIGNUP, ANN)
    assert response.url.startswith(START)
    said = "Your phone number needs to be verified."
    assert errors(client.get(response.url)) == {"__all__": [said]}
    assert errors(client.get(response.url)) == {}


def test_signup_of_somebody_logged_in(client, user):
    assert client.get(SIGNUP).url == DONE


# What a site does with them.


def template(settings, folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [folder]}]


SITES_OWN = "<title>{% block title %}{% endblock %} – Ours</title>{% block content %}{% endblock %}"


@pytest.mark.parametrize("name", ["base.html", "django_flashcall/base.html"])
def test_the_pages_take_the_sites_own_base(client, settings, tmp_path, name):
    template(settings, tmp_path, name, SITES_OWN)
    html = client.get(START).content.decode()
    assert "<title>Your phone number – Ours</title>" in html
    assert "flashcall.css" in html
    assert "<!doctype" not in html


def test_every_page_is_in_the_language_of_the_visitor(client):
    html = client.get(START, headers={"accept-language": "ru"}).content.decode()
    assert '<html lang="ru"' in html


def anyone(request):
    return HttpResponse("in")


class Protected(PhoneVerifiedRequiredMixin, View):
    def get(self, request):
        return HttpResponse("in")


async def anyone_later(request):
    return HttpResponse("in")


class ProtectedLater(PhoneVerifiedRequiredMixin, View):
    async def get(self, request):
        return HttpResponse("in")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", [phone_verified_required(anyone_later), ProtectedLater.as_view()])
def test_async_views_for_those_with_a_verified_number(rf, view, settings):
    """The user is not loaded yet: the event loop must not wait for the database."""

    async def visit(user):
        request = rf.get("/in/")
        request.user = SimpleLazyObject(lambda: get_user_model().objects.get(pk=user.pk))
        request.auser = partial(get_user_model().objects.aget, pk=user.pk)
        return await view(request)

    user = get_user_model().objects.create_user(username="ann")
    assert async_to_sync(visit)(user).url == f"{START}?next=/in/"
    Phone.objects.create(number=NUMBER, owner=user)
    assert async_to_sync(visit)(user).content == b"in"


@pytest.mark.parametrize("view", [phone_verified_required(anyone), Protected.as_view()])
def test_views_for_those_with_a_verified_number(rf, user, view, settings):
    request = rf.get("/in/")
    request.user = AnonymousUser()
    assert view(request).url == f"{settings.LOGIN_URL}?next=/in/"
    request.user = user
    assert view(request).url == f"{START}?next=/in/"
    Phone.objects.create(number=NUMBER, owner=user)
    request.user = get_user_model().objects.get()
    assert view(request).content == b"in"
