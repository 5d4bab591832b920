"""The bridges to dj-rest-auth and djoser, with the real packages: registration and login."""

import pyotp
import pytest
from allauth.account.adapter import DefaultAccountAdapter
from dj_rest_auth.app_settings import api_settings as rest_auth
from dj_rest_auth.mfa.totp import TOTP
from django.contrib.auth import get_user_model, user_logged_in
from django.db import connection
from django.db.models.signals import pre_save
from djoser.signals import user_registered
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from django_flashcall import services
from django_flashcall.models import Phone, Verification

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_accounts_site")]

NUMBER = "+79161234567"
PASSWORD = "correct horse 9"
LOGIN = "/api/login/"
REST_AUTH = "django_flashcall.contrib.rest_auth.answer"
DJOSER = "django_flashcall.contrib.djoser.answer"
JWT = "django_flashcall.rest_framework.answers.jwt"


@pytest.fixture(autouse=True)
def no_cooldown(configure, settings, outbox):
    configure(COOLDOWN=0)
    settings.ACCOUNT_ADAPTER = "allauth.account.adapter.DefaultAccountAdapter"
    settings.ACCOUNT_LOGIN_METHODS = {"username"}
    settings.ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]


@pytest.fixture
def token(outbox):
    def token(purpose, number=NUMBER, **kwargs):
        verification = services.start(number, purpose=purpose, **kwargs)
        return str(services.check(verification, outbox[-1].code))

    return token


@pytest.fixture
def ann(token):
    user = get_user_model().objects.create_user("ann", password=PASSWORD)
    services.redeem(token("signup"), user=user)
    return user


# Registration, with both packages.


class RestAuth:
    name = "dj-rest-auth"

    def register(self, api, **data):
        passwords = {"password1": PASSWORD, "password2": PASSWORD}
        body = {"username": "ann", "email": "ann@example.com", **passwords, **data}
        return api.post("/auth/registration/", body, format="json")

    weak = ({"password1": "123", "password2": "123"}, "password1")
    like_the_name = {"password1": "ann-catherine", "password2": "ann-catherine"}
    field_of_password = "non_field_errors"
    registered = ("key",)


class Djoser:
    name = "djoser"

    def register(self, api, **data):
        body = {"username": "ann", "email": "ann@example.com", "password": PASSWORD, **data}
        return api.post("/djoser/users/", body, format="json")

    weak = ({"password": "123"}, "password")
    like_the_name = {"password": "ann-catherine"}
    field_of_password = "password"
    registered = ("email", "username", "id")


@pytest.fixture(params=[RestAuth(), Djoser()], ids=lambda package: package.name)
def package(request):
    return request.param


def refused(response, field="phone_token"):
    assert response.status_code == 400, response.content
    assert set(response.json()) == {field}
    assert not get_user_model().objects.filter(username__startswith="ann").exists()
    return response.json()[field][0]


def test_a_registration_with_a_verified_number(api, token, package):
    response = package.register(api, phone_token=token("signup"))
    assert response.status_code == 201
    assert set(response.json()) == set(package.registered)
    user = get_user_model().objects.get()
    assert (user.username, user.email) == ("ann", "ann@example.com")
    assert user.check_password(PASSWORD)
    assert user.verified_phone.number == NUMBER
    assert Verification.objects.get().redeemed_by == user


def test_a_registration_without_a_token(api, package):
    assert refused(package.register(api)) == "This field is required."
    assert refused(package.register(api, phone=NUMBER)) == "This field is required."
    assert refused(package.register(api, phone_token=None)) == "This field may not be null."


def test_a_bad_token(api, package):
    for bad in ("", "nonsense", 17, "\x00"):
        assert "needs to be verified" in refused(package.register(api, phone_token=bad))


@pytest.mark.parametrize("purpose", ["login", "change"])
def test_a_token_of_another_purpose(api, token, package, purpose):
    refused(package.register(api, phone_token=token(purpose)))
    assert Verification.objects.get().status == "verified"


def test_a_token_of_somebody_else(api, token, package):
    eve = get_user_model().objects.create_user("eve")
    refused(package.register(api, phone_token=token("signup", user=eve)))
    refused(package.register(api, phone_token=token("signup", session="theirs")))


def test_the_user_who_started_the_verification(api, token, package):
    """Somebody who is logged in can register another account, as at our own signup."""
    eve = get_user_model().objects.create_user("eve")
    api.force_login(eve)
    assert package.register(api, phone_token=token("signup", user=eve)).status_code == 201
    assert Phone.objects.get().owner.username == "ann"


def test_a_token_registers_once(api, token, package):
    proof = token("signup")
    assert package.register(api, phone_token=proof).status_code == 201
    response = package.register(
        APIClient(), username="eve", email="eve@example.com", phone_token=proof
    )
    assert (response.status_code, set(response.json())) == (400, {"phone_token"})
    assert get_user_model().objects.count() == 1


def test_a_number_of_another_account(api, token, package):
    eve = get_user_model().objects.create_user("eve")
    services.redeem(token("signup"), user=eve)
    proof = token("signup")
    assert "account" in refused(package.register(api, phone_token=proof))
    assert Phone.objects.get().owner == eve
    services.remove_phone(eve)
    assert package.register(api, phone_token=proof).status_code == 201  # it was not spent


@pytest.mark.parametrize("atomic", [False, True])
def test_a_refused_registration_does_not_spend_the_token(api, token, package, monkeypatch, atomic):
    proof = token("signup")
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    weak, field = package.weak
    refused(package.register(api, phone_token=proof, **weak), field)
    refused(package.register(api, phone_token=proof, email="nonsense"), "email")
    name = {"username": "ann-catherine"}
    data = {**name, **package.like_the_name, "phone_token": proof}
    refused(package.register(api, **data), package.field_of_password)
    assert Verification.objects.get().status == "verified"
    assert package.register(api, phone_token=proof).status_code == 201


class LateAdapter(DefaultAccountAdapter):
    """Somebody takes a name as soon as it was found to be free."""

    def clean_username(self, username, **kwargs):
        name = super().clean_username(username, **kwargs)
        get_user_model().objects.create_user(name)
        return name


def test_a_name_taken_in_the_meantime_with_dj_rest_auth(api, token, settings):
    settings.ACCOUNT_ADAPTER = f"{__name__}.LateAdapter"
    response = RestAuth().register(api, username="bob", phone_token=token("signup"))
    assert "already exists" in refused(response, "username")
    assert Verification.objects.get().status == "verified"


def test_a_name_taken_in_the_meantime_with_djoser(api, token):
    model = get_user_model()

    def take(instance, **kwargs):
        pre_save.disconnect(take, model)
        model.objects.bulk_create([model(username=instance.username)])

    pre_save.connect(take, model)
    response = Djoser().register(api, username="bob", phone_token=token("signup"))
    assert (response.status_code, response.json()) == (400, ["Unable to create account."])
    assert Verification.objects.get().status == "verified"


def test_with_the_bridge_to_allauth_the_number_is_called_once(api, token, settings, outbox):
    settings.ACCOUNT_ADAPTER = "tests.allauth_site.Adapter"
    settings.ACCOUNT_LOGIN_METHODS = {"phone"}
    settings.ACCOUNT_SIGNUP_FIELDS = ["phone*", "password1*"]
    assert RestAuth().register(api, phone_token=token("signup")).status_code == 201
    assert get_user_model().objects.get().verified_phone.number == NUMBER
    assert len(outbox) == 1


def test_only_the_token_fills_the_field_of_the_number(api, token, package, configure):
    configure(USER_PHONE_FIELD="last_name")
    proof = token("signup")
    response = package.register(api, phone_token=proof, last_name="+79990000000", id=77)
    assert response.status_code == 201
    user = get_user_model().objects.get()
    assert (user.last_name, user.pk == 77) == (NUMBER, False)


def test_a_required_number_is_not_asked_for(api, token, configure, monkeypatch):
    """A user model whose ``REQUIRED_FIELDS`` have the number, as djoser's serializer sees it."""
    from .rest_accounts_site import PhoneUserCreateSerializer as Serializer

    fields = (*Serializer.Meta.fields, "last_name")
    monkeypatch.setattr(Serializer.Meta, "fields", fields)
    required = {"last_name": {"required": True}}
    monkeypatch.setattr(Serializer.Meta, "extra_kwargs", required, raising=False)
    configure(USER_PHONE_FIELD="last_name")
    response = Djoser().register(api, phone_token=token("signup"))
    assert response.status_code == 201
    assert response.json()["last_name"] == NUMBER
    assert get_user_model().objects.get().last_name == NUMBER


def test_djoser_sends_its_signal_and_its_activation(api, token, settings, mailoutbox, configure):
    settings.DJOSER = {**settings.DJOSER, "SEND_ACTIVATION_EMAIL": True, "ACTIVATION_URL": "{uid}"}
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "djoser"]  # for its templates
    heard = []

    def hear(user, **kwargs):
        heard.append(user)

    user_registered.connect(hear)
    response = Djoser().register(api, phone_token=token("signup"))
    user_registered.disconnect(hear)
    assert response.status_code == 201
    assert heard == [get_user_model().objects.get()]
    assert len(mailoutbox) == 1
    configure(LOGIN={"ANSWER": DJOSER})
    assert log_in(api, token("login")).json()["error_code"] == "no_account"  # not active yet


# Login: the same answers as after a password.


def log_in(api, proof):
    return api.post(LOGIN, {"phone_token": proof}, format="json")


@pytest.fixture(params=[REST_AUTH, DJOSER])
def answer(request, configure):
    configure(LOGIN={"ANSWER": request.param})


def with_password(path):
    data = {"username": "ann", "password": PASSWORD}
    response = APIClient().post(path, data, format="json")
    assert response.status_code == 200
    return response


def test_djosers_token(api, token, ann, configure):
    configure(LOGIN={"ANSWER": DJOSER})
    heard = []

    def hear(user, **kwargs):
        heard.append(user)

    user_logged_in.connect(hear)
    response = log_in(api, token("login"))
    user_logged_in.disconnect(hear)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {"auth_token": Token.objects.get().key}
    assert response.json() == with_password("/djoser/token/login/").json()
    assert heard == [ann]
    assert not response.cookies
    api.credentials(HTTP_AUTHORIZATION=f"Token {response.json()['auth_token']}")
    assert api.get("/djoser/users/me/").json()["username"] == "ann"


def test_djosers_session(api, token, ann, configure, settings):
    configure(LOGIN={"ANSWER": DJOSER})
    settings.DJOSER = {**settings.DJOSER, "CREATE_SESSION_ON_LOGIN": True}
    assert log_in(api, token("login")).status_code == 200
    assert api.session["_auth_user_id"] == str(ann.pk)


def test_djosers_json_web_tokens(api, token, ann, configure):
    configure(LOGIN={"ANSWER": JWT})
    body = log_in(api, token("login")).json()
    assert set(body) == set(with_password("/djoser/jwt/create/").json())
    assert AccessToken(body["access"])["user_id"] == str(ann.pk)
    refreshed = api.post("/djoser/jwt/refresh/", {"refresh": body["refresh"]}, format="json")
    assert refreshed.status_code == 200


@pytest.mark.parametrize("mfa", [True, False])
def test_the_key_of_dj_rest_auth(api, token, ann, configure, mfa, settings):
    if not mfa:
        apps = [app for app in settings.INSTALLED_APPS if app != "dj_rest_auth.mfa"]
        settings.INSTALLED_APPS = apps
    configure(LOGIN={"ANSWER": REST_AUTH})
    response = log_in(api, token("login"))
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {"key": Token.objects.get().key}
    assert response.json() == with_password("/auth/login/").json()
    assert api.session["_auth_user_id"] == str(ann.pk)  # `SESSION_LOGIN` is its default
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {response.json()['key']}")
    assert api.get("/auth/user/").json()["username"] == "ann"


def test_dj_rest_auth_without_a_session(api, token, ann, configure, monkeypatch):
    configure(LOGIN={"ANSWER": REST_AUTH})
    monkeypatch.setattr(rest_auth, "SESSION_LOGIN", False)
    response = log_in(api, token("login"))
    assert set(response.json()) == {"key"}
    assert not response.cookies


def test_the_tokens_of_a_site_with_dj_rest_auth(api, token, ann, configure, monkeypatch):
    """``TOKEN_CREATOR`` gets what it gets after a password."""
    configure(LOGIN={"ANSWER": REST_AUTH})

    def create(token_model, user, serializer):
        assert serializer.validated_data["user"] == user
        assert serializer.context["request"].method == "POST"
        return token_model.objects.create(user=user, key="of the site")

    monkeypatch.setattr(rest_auth, "TOKEN_CREATOR", create)
    assert log_in(api, token("login")).json() == {"key": "of the site"}


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("expiration", [True, False])
def test_json_web_tokens_of_dj_rest_auth(
    api, token, ann, configure, monkeypatch, hidden, expiration
):
    configure(LOGIN={"ANSWER": REST_AUTH})
    for name, value in {
        "USE_JWT": True,
        "SESSION_LOGIN": False,
        "JWT_AUTH_COOKIE": "access",
        "JWT_AUTH_REFRESH_COOKIE": "refresh",
        "JWT_AUTH_HTTPONLY": hidden,
        "JWT_AUTH_RETURN_EXPIRATION": expiration,
    }.items():
        monkeypatch.setattr(rest_auth, name, value)
    response = log_in(api, token("login"))
    theirs = with_password("/auth/login/")
    assert response.status_code == 200
    body = response.json()
    assert set(body) == set(theirs.json())
    assert body["user"] == theirs.json()["user"]
    assert AccessToken(body["access"])["user_id"] == str(ann.pk)
    assert (body["refresh"] == "") is hidden
    assert set(response.cookies) == set(theirs.cookies) == {"access", "refresh"}
    assert response.cookies["access"].value == body["access"]
    assert bool(response.cookies["access"]["httponly"]) is hidden
    assert RefreshToken(response.cookies["refresh"].value)["user_id"] == str(ann.pk)


def test_dj_rest_auth_asks_for_its_second_factor(api, token, ann, configure):
    configure(LOGIN={"ANSWER": REST_AUTH})
    secret = pyotp.random_base32()
    TOTP.activate(ann, secret)
    body = log_in(api, token("login")).json()
    assert set(body) == {"ephemeral_token", "mfa_required"}
    assert "_auth_user_id" not in api.session
    assert not Token.objects.exists()
    data = {"ephemeral_token": body["ephemeral_token"], "code": pyotp.TOTP(secret).now()}
    assert set(api.post("/auth/mfa/verify/", data, format="json").json()) == {"key"}


def test_a_token_logs_in_once(api, token, ann, answer):
    proof = token("login")
    assert log_in(api, proof).status_code == 200
    assert log_in(APIClient(), proof).json()["error_code"] == "invalid_token"


@pytest.mark.parametrize("purpose", ["signup", "change"])
def test_a_token_of_another_purpose_does_not_log_in(api, token, ann, answer, purpose):
    assert log_in(api, token(purpose)).json()["error_code"] == "invalid_token"
    assert not Token.objects.exists()


def test_who_does_not_get_in(api, token, ann, answer):
    """A number without an account, and an inactive one."""
    unknown = token("login", "+79161234568")
    get_user_model().objects.update(is_active=False)
    for proof in (unknown, token("login")):
        response = log_in(api, proof)
        assert response.status_code == 400
        assert response.json()["error_code"] == "no_account"
    assert "_auth_user_id" not in api.session
    assert not Token.objects.exists()
    get_user_model().objects.update(is_active=True)
    assert log_in(api, proof).status_code == 200  # it was not spent


def test_an_unknown_number_can_become_an_account(api, token, answer, configure, settings):
    login = {**settings.FLASHCALL["LOGIN"], "UNKNOWN_NUMBER": "sign_up"}
    configure(LOGIN=login)
    assert log_in(api, token("login")).status_code == 200
    assert Token.objects.get().user.verified_phone.number == NUMBER


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain"])
def test_the_form_of_another_site_logs_nobody_in(api, token, ann, answer, content_type):
    """A page of another site can send these without a question to ours, in its visitor's name."""
    body = f"phone_token={token('login')}"
    response = api.post(LOGIN, body, content_type=content_type)
    assert response.status_code == 415
    assert not response.cookies
