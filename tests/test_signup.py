"""Signup over the API, with whatever user model a site has."""

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from django_flashcall import services
from django_flashcall.models import Phone, Verification

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
ANN = {"username": "ann", "email": "ann@example.com", "password": "correct horse 9"}


@pytest.fixture
def token(outbox):
    def token(number=NUMBER, **kwargs):
        verification = services.start(number, **kwargs)
        return str(services.check(verification, outbox[-1].code))

    return token


def signup(api, **data):
    return api.post("/api/signup/", data, format="json")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "not a name!"}, "username"),
        ({"username": "x" * 200}, "username"),
        ({"email": "nonsense"}, "email"),
        ({"password": "123"}, "password"),
        ({"password": "ann@example.com"}, "password"),
        ({"password": ""}, "password"),
        ({"phone_token": None}, "phone_token"),
    ],
)
def test_a_refused_signup_does_not_spend_the_token(api, token, changes, field):
    proof = token()
    response = signup(api, **{**ANN, "phone_token": proof, **changes})
    assert response.status_code == 400
    body = response.json()
    assert body["error_code"] == "invalid"
    assert set(body) == {field, "error_code"}
    assert not get_user_model().objects.exists()
    assert signup(api, **ANN, phone_token=proof).status_code == 201


@pytest.mark.parametrize("email", [{}, {"email": ""}])
def test_what_the_model_allows_to_be_blank_is_optional(api, token, email):
    account = {"username": "ann", "password": "correct horse 9"}
    assert signup(api, **account, **email, phone_token=token()).status_code == 201
    assert get_user_model().objects.get().email == ""


def test_without_a_token_nobody_learns_which_names_are_taken(api):
    get_user_model().objects.create_user(username="ann")
    bodies = [
        signup(api, **{**ANN, "username": name}, phone_token="x").json() for name in ("ann", "eve")
    ]
    assert bodies[0] == bodies[1]
    assert bodies[0].keys() == {"phone_token", "error_code"}


def test_a_taken_name(api, token):
    get_user_model().objects.create_user(username="ann")
    proof = token()
    body = signup(api, **ANN, phone_token=proof).json()
    assert set(body) == {"username", "error_code"}
    assert body["error_code"] == "invalid"
    assert signup(api, **{**ANN, "username": "eve"}, phone_token=proof).status_code == 201


@pytest.mark.parametrize("bad", ["", "nonsense", 17, "\x00"])
def test_a_bad_token(api, bad):
    response = signup(api, **ANN, phone_token=bad)
    assert response.status_code == 400
    assert response.json()["error_code"] == "invalid_token"
    assert response.json()["phone_token"]


def test_a_used_token(api, token):
    proof = token()
    assert signup(api, **ANN, phone_token=proof).status_code == 201
    response = signup(api, **{**ANN, "username": "eve"}, phone_token=proof)
    assert response.json()["error_code"] == "invalid_token"
    assert get_user_model().objects.count() == 1


def test_a_token_of_another_purpose(api, token, configure):
    configure(PURPOSES={"signup": {}, "login": {}})
    response = signup(api, **ANN, phone_token=token(purpose="login"))
    assert response.json()["error_code"] == "invalid_token"


def test_a_taken_number(api, token, configure):
    configure(COOLDOWN=0)
    assert signup(api, **ANN, phone_token=token()).status_code == 201
    proof = token()
    response = signup(api, **{**ANN, "username": "eve"}, phone_token=proof)
    assert response.status_code == 400
    assert response.json()["error_code"] == "phone_taken"
    assert response.json()["phone_token"]
    assert get_user_model().objects.count() == 1
    assert Verification.objects.latest("created_at").status == "verified"  # unspent
    get_user_model().objects.all().delete()
    assert signup(api, **ANN, phone_token=proof).status_code == 201


def test_it_takes_its_fields_and_nothing_else(api, token):
    proof = token()
    response = signup(
        api, **ANN, phone_token=proof, is_superuser=True, is_staff=True, phone="+79990000000", id=77
    )
    assert response.status_code == 201
    assert set(response.json()) == {"id", "username", "phone"}
    user = get_user_model().objects.get()
    assert not user.is_superuser
    assert not user.is_staff
    assert user.pk != 77
    assert Phone.objects.get().owner == user


@pytest.mark.parametrize("page", [False, True])
def test_a_name_that_is_taken_in_another_form(api, client, token, page, outbox):
    """Django's managers normalise what is given: ﬁ is fi."""
    get_user_model().objects.create_user("ﬁ")
    if page:
        check = client.post("/phone/", {"phone": NUMBER}).url
        client.post(check, {"code": outbox[-1].code})
        response = client.post("/phone/signup/", {**ANN, "username": "ﬁ"})
        assert response.context["form"].errors["username"]
    else:
        response = signup(api, **{**ANN, "username": "ﬁ"}, phone_token=token())
        assert response.status_code == 400
        assert "already exists" in response.json()["username"][0]
    assert get_user_model().objects.count() == 1


@pytest.mark.parametrize("details", ["Not today.", {"username": "Not this one."}])
def test_what_the_model_refuses(api, token, monkeypatch, details):
    def clean(self):
        raise ValidationError(details)

    monkeypatch.setattr(get_user_model(), "clean", clean)
    response = signup(api, **ANN, phone_token=token())
    assert response.status_code == 400
    field = "username" if isinstance(details, dict) else "non_field_errors"
    assert response.json()[field][0].startswith("Not t")


@pytest.mark.parametrize("page", [False, True])
def test_a_mistake_of_the_site_is_not_hidden(api, client, token, page, outbox, monkeypatch):
    def create_user(**fields):
        raise IntegrityError("NOT NULL constraint failed")

    monkeypatch.setattr(get_user_model()._default_manager, "create_user", create_user)
    check = client.post("/phone/", {"phone": NUMBER}).url if page else ""
    if page:
        client.post(check, {"code": outbox[-1].code})
        with pytest.raises(IntegrityError):
            client.post("/phone/signup/", ANN)
    else:
        proof = token()
        with pytest.raises(IntegrityError):
            signup(api, **ANN, phone_token=proof)


@pytest.mark.parametrize("page", [False, True])
def test_a_manager_that_changes_what_is_given(api, client, token, page, outbox, monkeypatch):
    people = get_user_model()._default_manager
    create = people.create_user

    def create_user(username, **fields):
        return create(username.lower(), **fields)

    create_user("ann")
    monkeypatch.setattr(people, "create_user", create_user)
    if page:
        check = client.post("/phone/", {"phone": NUMBER}).url
        client.post(check, {"code": outbox[-1].code})
        response = client.post("/phone/signup/", {**ANN, "username": "ANN"})
        assert response.context["form"].errors["username"]
    else:
        response = signup(api, **{**ANN, "username": "ANN"}, phone_token=token())
        assert response.status_code == 400
        assert "already exists" in response.json()["username"][0]


def test_the_number_fills_the_field_of_the_user_and_is_never_asked_for(api, token, configure):
    configure(USER_PHONE_FIELD="last_name")
    response = signup(api, **ANN, phone_token=token(), last_name="+79990000000")
    assert response.status_code == 201
    assert get_user_model().objects.get().last_name == NUMBER
