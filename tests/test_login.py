"""Login by phone over the API: who gets in, who does not, and what the answer is."""

import pytest
from django.contrib.auth import get_user_model, user_logged_in
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from django_flashcall import services
from django_flashcall.exceptions import (
    InvalidToken,
    InvalidValue,
    NoAccount,
    PhoneTaken,
    ProviderUnavailable,
)
from django_flashcall.models import Phone, Verification
from django_flashcall.protection import budget
from django_flashcall.rest_framework.views import FlashcallView

from .test_enumeration import shape, statements

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
LOGIN = "/api/login/"


@pytest.fixture(autouse=True)
def no_cooldown(configure, outbox, monkeypatch):
    configure(COOLDOWN=0)
    monkeypatch.setattr(budget, "_made", None)  # the tables were rolled back


@pytest.fixture
def token(outbox):
    def token(number=NUMBER, *, purpose="login", **kwargs):
        verification = services.start(number, purpose=purpose, **kwargs)
        return str(services.check(verification, outbox[-1].code))

    return token


@pytest.fixture
def ann(token):
    user = get_user_model().objects.create_user("ann", password="correct horse 9")
    services.redeem(token(purpose="signup"), user=user)
    return user


def log_in(api, token, **data):
    return api.post(LOGIN, {"phone_token": token, **data}, format="json")


def refused(response, word):
    assert response.status_code == 400
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert set(body) == {"phone_token", "error_code"}
    assert body["error_code"] == word
    return True


def test_the_whole_way(api, outbox, ann):
    start = {"phone": NUMBER, "purpose": "login"}
    started = api.post("/api/verifications/", start, format="json").json()
    assert (started["purpose"], started["code_length"]) == ("login", 6)
    assert len(outbox[-1].code) == 6
    path = f"/api/verifications/{started['id']}/check/"
    token = api.post(path, {"code": outbox[-1].code}, format="json").json()["token"]
    response = log_in(api, token)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {"id": ann.pk, "username": "ann", "phone": "+7******4567"}
    assert response.cookies["sessionid"]["httponly"]
    assert api.session["_auth_user_id"] == str(ann.pk)
    verification = Verification.objects.get(purpose="login")
    assert (verification.status, verification.redeemed_by) == ("redeemed", ann)


def test_a_token_is_used_once(api, token, ann):
    proof = token()
    assert log_in(api, proof).status_code == 200
    assert refused(log_in(APIClient(), proof), "invalid_token")


@pytest.mark.parametrize("purpose", ["signup", "change"])
def test_a_token_of_another_purpose_does_nothing_here(api, token, ann, purpose):
    assert refused(log_in(api, token(purpose=purpose)), "invalid_token")
    assert "_auth_user_id" not in api.session


@pytest.mark.parametrize("purpose", ["signup", "change", "order"])
def test_a_token_of_login_does_nothing_elsewhere(api, token, configure, purpose):
    configure(PURPOSES={"signup": {}, "change": {}, "order": {}, "login": {}})
    bob = get_user_model().objects.create_user("bob")
    proof = token()
    with pytest.raises(InvalidToken):
        services.redeem(proof, purpose=purpose, user=bob)
    account = {"username": "eve", "password": "correct horse 9"}
    response = api.post("/api/signup/", {**account, "phone_token": proof}, format="json")
    assert refused(response, "invalid_token")
    assert Phone.objects.get().owner is None


@pytest.mark.parametrize("bad", ["", "nonsense", 17, "\x00"])
def test_a_bad_token(api, bad):
    assert refused(log_in(api, bad), "invalid_token")


@pytest.mark.parametrize("data", [{}, {"phone_token": None}, {"phone_token": []}])
def test_a_malformed_request(api, data):
    assert refused(api.post(LOGIN, data, format="json"), "invalid")


def test_a_site_without_the_purpose_has_no_login(api, token, configure):
    configure(PURPOSES={"signup": {}})
    assert refused(log_in(api, token(purpose="signup")), "invalid_token")
    with pytest.raises(InvalidValue):
        services.start(NUMBER, purpose="login")


def test_a_number_without_an_account(api, token):
    proof = token()
    assert refused(log_in(api, proof), "no_account")
    assert Verification.objects.get().status == "verified"  # not used up
    assert not get_user_model().objects.exists()


def test_an_inactive_account(api, token, ann):
    get_user_model().objects.update(is_active=False)
    assert refused(log_in(api, token()), "no_account")
    assert "_auth_user_id" not in api.session


def test_the_backends_of_the_site_decide_who_may_log_in(api, token, ann, settings):
    """A backend that does not ask, one without `get_user`, and one that knows nobody."""
    get_user_model().objects.update(is_active=False)
    path = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [
        "tests.test_login.NoLoader",
        "django.contrib.auth.backends.BaseBackend",
        path,
    ]
    assert log_in(api, token()).status_code == 200
    assert api.session["_auth_user_backend"] == path


def test_a_backend_that_returns_somebody_else_is_not_believed(api, token, ann, settings):
    get_user_model().objects.create_user("bob")
    settings.AUTHENTICATION_BACKENDS = ["tests.test_login.Confused"]
    assert refused(log_in(api, token()), "no_account")


class NoLoader:
    def authenticate(self, request):
        return None


class Confused:
    def get_user(self, user_id):
        return User.objects.get(username="bob")


def test_a_token_of_a_user_or_session_is_theirs(api, token, ann):
    bob = get_user_model().objects.create_user("bob")
    for binding in ({"user": bob}, {"session": "value"}):
        assert refused(log_in(api, token(**binding)), "invalid_token")
    proof = token(session="value")
    session = api.session
    session["django_flashcall"] = "value"
    session.save()
    assert log_in(api, proof).status_code == 200


# The session.


def test_the_session_gets_a_new_key_and_the_signal_is_sent_once(api, token, ann):
    session = api.session
    session["basket"] = 7
    session.save()
    planted = session.session_key
    api.cookies["sessionid"] = planted
    heard = []
    user_logged_in.connect(lambda **kwargs: heard.append(kwargs["user"]), weak=False)
    try:
        assert log_in(api, token()).status_code == 200
    finally:
        user_logged_in.receivers.pop()
        user_logged_in.sender_receivers_cache.clear()
    assert heard == [ann]
    assert api.session.session_key != planted
    assert api.session["basket"] == 7
    intruder = APIClient()
    intruder.cookies["sessionid"] = planted
    assert "_auth_user_id" not in intruder.session
    ann.refresh_from_db()
    assert ann.last_login is not None


def test_somebody_else_who_was_logged_in_leaves_nothing_behind(api, token, ann):
    bob = get_user_model().objects.create_user("bob")
    api.force_login(bob)
    session = api.session
    session["basket"] = "of bob"
    session.save()
    assert log_in(api, token()).status_code == 200
    assert api.session["_auth_user_id"] == str(ann.pk)
    assert "basket" not in api.session


def test_a_session_is_given_only_with_the_csrf_token(token, ann):
    browser = APIClient(enforce_csrf_checks=True)
    proof = token()
    response = log_in(browser, proof)
    assert response.status_code == 403
    assert response.json()["error_code"] == "permission_denied"
    assert Verification.objects.get(purpose="login").status == "verified"
    browser.cookies["csrftoken"] = "x" * 32
    response = browser.post(
        LOGIN, {"phone_token": proof}, format="json", headers={"X-CSRFToken": "x" * 32}
    )
    assert response.status_code == 200


# Other answers.


def answer(configure, path, **keys):
    configure(LOGIN={"ANSWER": path, **keys})
    # An app has no cookies, and so no CSRF token.
    return APIClient(enforce_csrf_checks=True)


def test_a_token_of_drf(configure, token, ann):
    app = answer(configure, "django_flashcall.rest_framework.answers.drf_token")
    response = log_in(app, token())
    assert response.status_code == 200
    assert response.json() == {"token": Token.objects.get(user=ann).key}
    assert not response.cookies
    app.credentials(HTTP_AUTHORIZATION=f"Token {response.json()['token']}")
    start = {"phone": NUMBER, "purpose": "change"}
    assert app.post("/api/verifications/", start, format="json").status_code == 201
    assert Verification.objects.latest("created_at").user == ann
    assert log_in(APIClient(), token()).json() == response.json()


def test_tokens_of_simplejwt(configure, token, ann):
    from rest_framework.test import APIRequestFactory
    from rest_framework_simplejwt.authentication import JWTAuthentication
    from rest_framework_simplejwt.tokens import RefreshToken

    response = log_in(answer(configure, JWT), token())
    assert response.status_code == 200
    assert set(response.json()) == {"access", "refresh"}
    assert not response.cookies
    header = f"Bearer {response.json()['access']}"
    request = APIRequestFactory().get("/", headers={"Authorization": header})
    assert JWTAuthentication().authenticate(request)[0] == ann
    assert RefreshToken(response.json()["refresh"])["user_id"] == str(ann.pk)


def test_a_token_that_simplejwt_refuses(api, monkeypatch):
    from rest_framework_simplejwt.authentication import JWTAuthentication

    monkeypatch.setattr(FlashcallView, "authentication_classes", [JWTAuthentication])
    response = api.get("/api/phone/", headers={"Authorization": "Bearer x"})
    assert response.status_code == 401
    said = response.json()
    assert said["error_code"] == said["code"] == "token_not_valid"
    assert isinstance(said["detail"], str)


JWT = "django_flashcall.rest_framework.answers.jwt"


def test_the_claims_and_settings_of_a_site_with_simplejwt(configure, token, ann, settings):
    from rest_framework_simplejwt.tokens import AccessToken

    settings.SIMPLE_JWT = {
        "TOKEN_OBTAIN_SERIALIZER": "tests.test_login.with_a_claim",
        "UPDATE_LAST_LOGIN": True,
    }
    response = log_in(answer(configure, JWT), token())
    assert AccessToken(response.json()["access"])["name"] == "ann"
    ann.refresh_from_db()
    assert ann.last_login is not None
    settings.SIMPLE_JWT = {
        "TOKEN_OBTAIN_SERIALIZER": (
            "rest_framework_simplejwt.serializers.TokenObtainSlidingSerializer"
        )
    }
    assert set(log_in(APIClient(), token()).json()) == {"token"}


class with_a_claim:
    @classmethod
    def get_token(cls, user):
        from rest_framework_simplejwt.tokens import RefreshToken

        token = RefreshToken.for_user(user)
        token["name"] = user.get_username()
        return token


@pytest.mark.parametrize("path", [JWT, "django_flashcall.rest_framework.answers.drf_token"])
def test_no_answer_for_an_inactive_account(configure, token, ann, path):
    get_user_model().objects.update(is_active=False)
    assert refused(log_in(answer(configure, path), token()), "no_account")
    assert not Token.objects.exists()


def test_an_answer_of_the_site(configure, token, ann):
    app = answer(configure, "tests.test_login.own_answer")
    assert log_in(app, token()).json() == {"hello": "ann", "number": NUMBER}


def own_answer(request, user):
    return {"hello": user.username, "number": user.verified_phone.number}


# Sign in or sign up.


def test_an_unknown_number_becomes_an_account(api, token, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"})
    response = log_in(api, token())
    assert response.status_code == 200
    user = get_user_model().objects.get()
    assert response.json()["id"] == user.pk
    assert user.username.startswith("user-")
    user.full_clean(exclude=["password"])
    assert not user.has_usable_password()
    assert Phone.objects.get().owner == user
    assert api.session["_auth_user_id"] == str(user.pk)
    again = log_in(APIClient(), token())
    assert again.json()["id"] == user.pk


def test_the_number_is_the_username(api, token, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"}, USER_PHONE_FIELD="username")
    assert log_in(api, token()).json()["username"] == NUMBER
    get_user_model().objects.create_user("+79161234560")
    with pytest.raises(PhoneTaken):  # who typed it there has not verified it
        services.log_in(token("+79161234560"))
    assert get_user_model().objects.count() == 2


def test_an_account_made_by_the_site(api, token, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up", "CREATE_USER": "tests.test_login.create"})
    assert log_in(api, token()).json()["username"] == "client 4567"


def create(number):
    return User.objects.create(username=f"client {number[-4:]}", is_active=number[-1] == "7")


def test_an_account_that_may_not_log_in_is_not_created(token, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up", "CREATE_USER": "tests.test_login.create"})
    with pytest.raises(NoAccount):
        services.log_in(token("+79161234568"))
    assert not User.objects.exists()


# What strangers learn, and when a number counts as verified.


def test_start_and_check_are_the_same_with_and_without_an_account(api, outbox, ann, token):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    stranger = "+79161234568"
    token(stranger)

    def journey(number):
        steps = []
        data = {"phone": number, "purpose": "login"}
        path = "/api/verifications/"
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                response = api.post(path, data, format="json")
            steps.append((shape(response), statements(captured)))
            path = f"/api/verifications/{response.json()['id']}/check/"
            data = {"code": outbox[-1].code}
        return steps

    with_account, without = journey(NUMBER), journey(stranger)
    assert with_account == without
    assert [step[0][0] for step in without] == [201, 200]


def test_a_right_code_alone_does_not_renew_when_the_owner_verified(token, ann):
    before = Phone.objects.get().verified_at
    bob = get_user_model().objects.create_user("bob")
    proof = token(purpose="signup")
    with pytest.raises(PhoneTaken):
        services.redeem(proof, user=bob)
    services.redeem(proof)
    assert Phone.objects.get().verified_at == before
    services.log_in(token())
    renewed = Phone.objects.get().verified_at
    assert renewed == Verification.objects.get(purpose="login").verified_at > before


def test_a_number_without_an_owner_says_when_it_was_verified(token):
    token()
    first = Phone.objects.get().verified_at
    token()
    assert Phone.objects.get().verified_at > first


def test_a_short_code_of_a_test_number_does_not_log_in(configure):
    configure(TEST_NUMBERS={NUMBER: "4321"})
    with pytest.raises(ProviderUnavailable):
        services.start(NUMBER, purpose="login")
    assert services.start(NUMBER).code_length == 4
    configure(TEST_NUMBERS={NUMBER: "654321"})
    assert services.check(services.start(NUMBER, purpose="login"), "654321")
