"""The number of a logged-in user over the API, and how old its verification may be."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q, UniqueConstraint
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.test import APIClient, APIRequestFactory

from django_flashcall import services, signals
from django_flashcall.decorators import PhoneVerifiedRequiredMixin, phone_verified_required
from django_flashcall.exceptions import InvalidValue, PhoneNotFound
from django_flashcall.models import Phone, Verification
from django_flashcall.rest_framework.permissions import HasVerifiedPhone

from .test_login import no_cooldown, refused, token  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db

NUMBER, OTHER = "+79161234567", "+79161234568"
PHONE = "/api/phone/"


@pytest.fixture
def user():
    return get_user_model().objects.create_user("ann")


@pytest.fixture
def ann(user):
    client = APIClient()
    client.force_login(user)
    return client


@pytest.fixture
def changes():
    """What the signal says: the user, and the former and the new number."""
    heard = []

    def hear(user, former_phone, phone, **kwargs):
        heard.append((user.username, former_phone.number, phone and phone.number))

    signals.phone_changed.connect(hear)
    yield heard
    signals.phone_changed.disconnect(hear)


def change(client, token):  # noqa: F811
    return client.post(PHONE, {"phone_token": token}, format="json")


def test_the_whole_way(ann, user, outbox):
    response = ann.get(PHONE)
    assert response.status_code == 404
    assert response.json() == {
        "detail": "You have no verified phone number.",
        "error_code": "not_found",
    }
    started = ann.post("/api/verifications/", {"phone": NUMBER, "purpose": "change"}, format="json")
    path = f"/api/verifications/{started.json()['id']}/check/"
    proof = ann.post(path, {"code": outbox[-1].code}, format="json").json()["token"]
    response = change(ann, proof)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    verified_at = Verification.objects.get().verified_at
    assert response.json() == ann.get(PHONE).json()
    assert response.json()["phone"] == "+7******4567"
    assert response.json()["verified_at"] == verified_at.isoformat().replace("+00:00", "Z")
    assert Phone.objects.get().owner == user
    assert refused(change(ann, proof), "invalid_token")
    response = ann.delete(PHONE)
    assert response.status_code == 204
    assert not response.content
    assert Phone.objects.get().owner is None
    assert ann.delete(PHONE).status_code == 404


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_it_is_for_logged_in_users(api, method):
    response = getattr(api, method)(PHONE, {}, format="json")
    assert response.status_code in (401, 403)
    assert response.json()["error_code"] == "not_authenticated"


def test_a_session_without_its_csrf_token_changes_nothing(user, token):  # noqa: F811
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(user)
    Phone.objects.create(number=NUMBER, owner=user)
    assert client.delete(PHONE).status_code == 403
    assert change(client, token(OTHER, purpose="change")).status_code == 403
    assert Phone.objects.get(owner=user).number == NUMBER


@pytest.mark.parametrize("purpose", ["signup", "login"])
def test_a_token_of_another_purpose_does_nothing_here(ann, token, purpose):  # noqa: F811
    assert refused(change(ann, token(purpose=purpose)), "invalid_token")
    assert Phone.objects.get().owner is None


def test_a_token_for_a_change_does_nothing_elsewhere(api, token):  # noqa: F811
    proof = token(purpose="change")
    account = {"username": "eve", "password": "correct horse 9"}
    for path, data in {"/api/login/": {}, "/api/signup/": account}.items():
        response = api.post(path, {**data, "phone_token": proof}, format="json")
        assert refused(response, "invalid_token")


def test_the_token_of_somebody_else(ann, token):  # noqa: F811
    bob = get_user_model().objects.create_user("bob")
    assert refused(change(ann, token(purpose="change", user=bob)), "invalid_token")


def test_the_number_of_somebody_else(ann, token):  # noqa: F811
    bob = get_user_model().objects.create_user("bob")
    Phone.objects.create(number=NUMBER, owner=bob)
    assert refused(change(ann, token(purpose="change")), "phone_taken")
    assert Phone.objects.get().owner == bob


@pytest.mark.django_db(transaction=True)
def test_the_owner_of_the_former_number_is_told(ann, token, changes, user):  # noqa: F811
    assert change(ann, token(purpose="change")).status_code == 200
    assert changes == []  # there was none
    for number, expected in ((OTHER, ("ann", NUMBER, OTHER)), (OTHER, None)):
        change(ann, token(number, purpose="change"))
        assert changes == ([expected] if expected else [])
        changes.clear()
    assert Phone.objects.get(number=NUMBER).owner is None
    ann.delete(PHONE)
    assert changes == [("ann", OTHER, None)]


@pytest.mark.django_db(transaction=True)
def test_nobody_is_told_of_what_is_rolled_back(user, changes, configure):
    Phone.objects.create(number=NUMBER, owner=user)
    with transaction.atomic():
        services.remove_phone(user)
        transaction.set_rollback(True)
    assert changes == []
    assert Phone.objects.get().owner == user
    services.remove_phone(user)
    assert changes == [("ann", NUMBER, None)]


def test_the_field_of_the_user_follows(ann, user, token, configure):  # noqa: F811
    configure(USER_PHONE_FIELD="last_name")
    change(ann, token(purpose="change"))
    user.refresh_from_db()
    assert user.last_name == NUMBER
    ann.delete(PHONE)
    user.refresh_from_db()
    assert user.last_name == ""


def test_a_field_that_can_be_null(user, configure, monkeypatch):
    from django_flashcall.verification import owners

    configure(USER_PHONE_FIELD="last_login")
    assert owners.empty_value() is None
    configure(USER_PHONE_FIELD="first_name")
    monkeypatch.setattr(user._meta.get_field("first_name"), "unique", True)
    assert not owners.is_number_optional()


def test_a_field_that_a_constraint_makes_unique(ann, user, token, configure, monkeypatch):  # noqa: F811
    from django_flashcall.verification import owners

    configure(USER_PHONE_FIELD="last_name")
    get_user_model().objects.create_user("bob", last_name=NUMBER)
    unique = {"fields": ["last_name"], "name": "people_user_last_name"}
    unless_empty = UniqueConstraint(**unique, condition=~Q(last_name=""))
    monkeypatch.setattr(user._meta, "constraints", [unless_empty])
    assert change(ann, token(purpose="change")).json()["error_code"] == "phone_taken"
    assert owners.is_number_optional()
    monkeypatch.setattr(user._meta, "constraints", [UniqueConstraint(**unique)])
    assert not owners.is_number_optional()


def test_an_account_that_needs_its_number_keeps_it(ann, user, configure):
    configure(USER_PHONE_FIELD="username")
    Phone.objects.create(number=NUMBER, owner=user)
    response = ann.delete(PHONE)
    assert response.status_code == 400
    assert response.json()["error_code"] == "invalid"
    assert response.json()["non_field_errors"]
    with pytest.raises(InvalidValue):
        services.remove_phone(user)
    assert Phone.objects.get().owner == user


def test_who_is_not_logged_in_has_no_number():
    from django.contrib.auth.models import AnonymousUser

    for nobody in (None, AnonymousUser()):
        with pytest.raises(PhoneNotFound):
            services.remove_phone(nobody)


def test_the_site_asks_for_the_password_again(ann, user, token, configure):  # noqa: F811
    Phone.objects.create(number=NUMBER, owner=user)
    proof = token(OTHER, purpose="change")
    for hook in ("refuses", "asks_for_the_password"):
        configure(REAUTHENTICATE=f"tests.test_login_page.{hook}")
        for response in (change(ann, proof), ann.delete(PHONE)):
            assert response.status_code == 403
            assert response.json() == {
                "non_field_errors": ["Enter your password again, then try again."],
                "error_code": "reauthentication_required",
            }
        assert ann.get(PHONE).status_code == 200
    assert Phone.objects.get(owner=user).number == NUMBER
    session = ann.session
    session["confirmed"] = True
    session.save()
    assert change(ann, proof).status_code == 200
    assert ann.delete(PHONE).status_code == 204


# Not older than some days.


class Recently(HasVerifiedPhone):
    max_age_days = 30


def ask(user, view=None):
    request = APIRequestFactory().get("/")
    request.user = user
    return request if view is None else view(request)


@pytest.mark.parametrize(("days", "passes"), [(0, True), (29, True), (31, False)])
def test_a_verification_that_is_not_older(user, days, passes, rf):
    assert not Recently().has_permission(ask(user), None)
    at = timezone.now() - timedelta(days=days)
    Phone.objects.create(number=NUMBER, owner=user, verified_at=at)
    assert HasVerifiedPhone().has_permission(ask(user), None)
    assert Recently().has_permission(ask(user), None) is passes

    @phone_verified_required(max_age_days=30)
    def function(request):
        return HttpResponse("in")

    class Class(PhoneVerifiedRequiredMixin, view_class()):
        phone_max_age_days = 30

    for view in (function, Class.as_view()):
        response = ask(user, view)
        assert response.status_code == (200 if passes else 302)


def view_class():
    from django.views.generic import View

    class Hello(View):
        def get(self, request):
            return HttpResponse("in")

    return Hello


def test_an_old_number_that_never_was_verified_is_too_old(user):
    Phone.objects.create(number=NUMBER, owner=user)
    assert services.has_verified_phone(user)
    assert not services.has_verified_phone(user, max_age_days=10_000)


def test_verifying_it_again_renews_it(ann, user, token):  # noqa: F811
    old = timezone.now() - timedelta(days=100)
    Phone.objects.create(number=NUMBER, owner=user, verified_at=old)
    token()  # somebody's right code is not the owner's
    assert not services.has_verified_phone(user, max_age_days=30)
    assert change(ann, token(purpose="change")).status_code == 200
    assert services.has_verified_phone(user, max_age_days=30)
