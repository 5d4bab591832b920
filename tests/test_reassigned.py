# ruff: noqa: F401, F811 (fixtures)
"""Numbers change hands: what happens to the account of a former owner, and to the newcomer."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from django_flashcall import services, signals
from django_flashcall.exceptions import NoAccount, PhoneTaken
from django_flashcall.models import Phone, Verification

from .operators import url
from .test_login import log_in, no_cooldown, refused, token
from .test_views import SIGNUP, client, words

pytestmark = pytest.mark.django_db

NUMBER, OTHER = "+79161234567", "+79161234568"
ACCOUNT = {"username": "new", "password": "correct horse 9"}
TAKEN = "/phone/taken/"


@pytest.fixture
def old():
    """An account whose number was verified 200 days ago."""
    user = get_user_model().objects.create_user("old", email="old@example.com")
    user.last_name = NUMBER
    user.save()
    at = timezone.now() - timedelta(days=200)
    Phone.objects.create(number=NUMBER, owner=user, verified_at=at)
    return user


@pytest.fixture
def new():
    return get_user_model().objects.create_user("new")


@pytest.fixture
def moves():
    """What the signal says: the number, and both users."""
    heard = []

    def hear(phone, user, former_owner, **kwargs):
        heard.append((phone.number, user.username, former_owner.username))

    signals.phone_reassigned.connect(hear)
    yield heard
    signals.phone_reassigned.disconnect(hear)


RULES = [
    ("refuse", False),
    (201, False),
    (199, True),
    (f"{__name__}.old_accounts", True),
    (f"{__name__}.nobody", False),
]


def old_accounts(phone, user):
    assert user is None or user.username == "new"
    return phone.owner.username == "old"


def nobody(phone, user):
    return False


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("rule", "moved"), RULES)
def test_a_logged_in_user_verifies_the_number_of_an_old_account(
    token,
    configure,
    old,
    new,
    moves,
    rule,
    moved,
):
    configure(REASSIGNED_NUMBERS=rule, USER_PHONE_FIELD="last_name")
    proof = token(purpose="change")
    if moved:
        services.redeem(proof, purpose="change", user=new)
    else:
        with pytest.raises(PhoneTaken):
            services.redeem(proof, purpose="change", user=new)
    owner, former = (new, old) if moved else (old, None)
    assert Phone.objects.get().owner == owner
    assert moves == ([(NUMBER, "new", "old")] if moved else [])
    row = Verification.objects.get()
    assert (row.status, row.former_owner) == ("redeemed" if moved else "verified", former)
    for user in (old, new):
        user.refresh_from_db()
        assert user.last_name == (NUMBER if user == owner else "")
    assert (old.email, old.is_active) == ("old@example.com", True)  # all else is kept


@pytest.mark.parametrize(("rule", "moved"), RULES)
def test_somebody_signs_up_with_the_number_of_an_old_account(
    api,
    token,
    configure,
    old,
    rule,
    moved,
):
    configure(REASSIGNED_NUMBERS=rule)
    proof = token(purpose="signup")
    response = api.post("/api/signup/", {**ACCOUNT, "phone_token": proof}, format="json")
    if moved:
        assert response.status_code == 201
        assert Phone.objects.get().owner.username == "new"
    else:
        assert refused(response, "phone_taken")
        assert Phone.objects.get().owner == old


@pytest.mark.parametrize(("rule", "moved"), RULES)
def test_a_number_that_can_be_moved_logs_nobody_in_to_the_old_account(
    api,
    token,
    configure,
    old,
    rule,
    moved,
):
    configure(REASSIGNED_NUMBERS=rule)
    response = log_in(api, token())
    if moved:
        assert refused(response, "no_account")
        configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"})
        response = log_in(api, token())
        assert Verification.objects.latest("created_at").former_owner == old
    assert response.status_code == 200
    assert (response.json()["id"] == old.pk) is not moved
    assert (Phone.objects.get().owner == old) is not moved


def test_an_owner_who_logs_in_keeps_the_number(token, configure, old):
    services.log_in(token())
    configure(REASSIGNED_NUMBERS=30)
    assert services.log_in(token())[0] == old


def test_the_right_code_of_a_stranger_does_not_keep_it_nor_take_it(
    token,
    configure,
    old,
    new,
):
    token()
    assert Phone.objects.get().owner == old
    configure(REASSIGNED_NUMBERS=199)
    services.redeem(token(purpose="change"), purpose="change", user=new)
    assert Phone.objects.get().owner == new


def test_a_number_whose_date_is_not_known_stays(token, configure, old, new):
    Phone.objects.update(verified_at=None)
    configure(REASSIGNED_NUMBERS=1)
    with pytest.raises(PhoneTaken):
        services.redeem(token(purpose="change"), purpose="change", user=new)
    assert services.log_in(token())[0] == old


def test_a_number_that_the_former_account_needs_stays(token, configure, old, new):
    configure(REASSIGNED_NUMBERS=199, USER_PHONE_FIELD="username")
    with pytest.raises(PhoneTaken):
        services.redeem(token(purpose="change"), purpose="change", user=new)


def test_another_number_in_the_field_of_the_former_owner_stays(
    token,
    configure,
    old,
    new,
):
    configure(REASSIGNED_NUMBERS=199, USER_PHONE_FIELD="last_name")
    get_user_model().objects.filter(pk=old.pk).update(last_name=OTHER)
    services.redeem(token(purpose="change"), purpose="change", user=new)
    old.refresh_from_db()
    assert old.last_name == OTHER


def test_a_refused_login_moves_nothing(token, configure, old):
    create = f"{__name__}.inactive"
    login = {"UNKNOWN_NUMBER": "sign_up", "CREATE_USER": create}
    configure(REASSIGNED_NUMBERS=199, USER_PHONE_FIELD="last_name", LOGIN=login)
    with pytest.raises(NoAccount):
        services.log_in(token())
    old.refresh_from_db()
    assert old.last_name == NUMBER
    assert Phone.objects.get().owner == old


def inactive(number):
    return get_user_model().objects.create(username="inactive", is_active=False)


# Pages, for the newcomer and for staff.


def verify(visitor, outbox, path):
    check = visitor.post(path, {"phone": NUMBER}).url
    return visitor.post(check, {"code": outbox[-1].code}).url


def test_a_page_helps_the_newcomer(client, outbox, old):
    assert verify(client, outbox, f"/phone/?next={SIGNUP}%3Fnext=/x/") == f"{SIGNUP}?next=/x/"
    taken = client.get(f"{SIGNUP}?next=/x/").url
    assert taken == f"{TAKEN}?next=%2Fx%2F"
    page = client.get(taken)
    assert "This number has an account already" in words(page)
    for path in ("/phone/login/?next=%2Fx%2F", "/phone/signup/?next=%2Fx%2F"):
        assert f'href="{path}"' in page.content.decode()
    # Not in a circle: another number is asked for.
    assert client.get("/phone/signup/").url.startswith("/phone/?next=")


def test_the_page_for_a_logged_in_user(client, outbox, old, new):
    client.force_login(new)
    for path in ("/phone/", "/phone/number/change/"):
        assert verify(client, outbox, path) == TAKEN
        page = client.get(TAKEN).content.decode()
        assert 'href="/phone/number/change/"' in page
        assert 'href="/phone/login/' not in page
        Phone.objects.update(last_called_at=None)
    assert Phone.objects.get().owner == old


def test_a_site_without_login(client, configure):
    configure(PURPOSES={"signup": {}})
    page = client.get(TAKEN).content.decode()
    assert "/phone/login/" not in page
    client.force_login(get_user_model().objects.create_user("ann"))
    assert 'href="/phone/"' in client.get(TAKEN).content.decode()


def test_the_signup_page_takes_a_number_that_can_be_moved(
    client,
    outbox,
    configure,
    old,
):
    configure(REASSIGNED_NUMBERS=199)
    verify(client, outbox, f"/phone/?next={SIGNUP}")
    assert client.get(SIGNUP).status_code == 200
    assert client.post(SIGNUP, {**ACCOUNT, "email": "new@example.com"}).status_code == 302
    assert Phone.objects.get().owner.username == "new"


def test_the_admin_shows_it(token, configure, old, new, admin_client):
    configure(REASSIGNED_NUMBERS=199)
    phone = Phone.objects.get()
    page = admin_client.get(url("phone", phone.pk))
    assert "moved from" in words(page).lower()
    assert " old " not in words(page).replace("has owner", "").split("moved from")[-1][:30].lower()
    services.redeem(token(purpose="change"), purpose="change", user=new)
    page = words(admin_client.get(url("phone", phone.pk)))
    assert "old" in page[page.lower().index("moved from") :][:40]
    verification = Verification.objects.get()
    page = words(admin_client.get(url("verification", verification.pk)))
    assert "The number was moved from the account old." in page
