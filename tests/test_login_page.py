"""The page of login by phone, through Django's client."""

from datetime import timedelta
from urllib.parse import quote

import pytest
from django.contrib.auth import get_user_model, user_logged_in
from django.test import Client
from django.utils import timezone

from django_flashcall import phones, services
from django_flashcall.models import Phone, Verification
from django_flashcall.protection import budget

from .test_enumeration import statements
from .test_views import NUMBER, START, client, errors, words, wrong  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db

LOGIN = "/phone/login/"
PROFILE = "/accounts/profile/"


@pytest.fixture
def ann():
    user = get_user_model().objects.create_user("ann")
    Phone.objects.create(number=NUMBER, owner=user)
    return user


@pytest.fixture
def visitor(client, outbox, configure):  # noqa: F811
    configure(COOLDOWN=0)
    return client


def call(client, query="", phone=NUMBER):  # noqa: F811
    response = client.post(LOGIN + query, {"phone": phone})
    assert response.status_code == 302, errors(response)
    return response.url


def user_of(client):  # noqa: F811
    return client.session.get("_auth_user_id")


def test_the_whole_way(visitor, outbox, ann):
    page = visitor.get(f"{LOGIN}?next=/orders/")
    assert "Log in by phone" in words(page)
    check = call(visitor, "?next=/orders/")
    assert "Enter the last 6 digits" in words(visitor.get(check))
    assert visitor.post(check, {"code": wrong(outbox[0].code)}).url == check
    assert "Wrong code" in words(visitor.get(check))
    assert user_of(visitor) is None
    before = visitor.session.session_key
    assert visitor.post(check, {"code": outbox[0].code}).url == "/orders/"
    assert user_of(visitor) == str(ann.pk)
    assert visitor.session.session_key != before
    assert "login" not in visitor.session["django_flashcall_tokens"]
    assert Verification.objects.get().redeemed_by == ann
    # Back to where they were: onwards from each of the pages.
    assert visitor.get(f"{LOGIN}?next=/orders/").url == "/orders/"
    assert 'href="/orders/"' in visitor.get(check).content.decode()
    assert visitor.post(check, {"code": outbox[0].code}).url == check
    assert user_of(visitor) == str(ann.pk)


def test_without_next_it_leads_to_the_sites_page(visitor, outbox, ann, settings):
    assert visitor.post(call(visitor), {"code": outbox[0].code}).url == PROFILE
    settings.LOGIN_REDIRECT_URL = "django_flashcall:done"
    assert visitor.get(LOGIN).url == "/phone/done/"


@pytest.mark.parametrize("next_url", ["https://evil.example/", "//evil.example", "javascript:x"])
def test_an_unsafe_next_is_not_followed(visitor, outbox, ann, next_url):
    query = f"?next={quote(next_url, safe='')}"
    check = call(visitor, query)
    assert "evil" not in check
    assert visitor.post(check + query, {"code": outbox[0].code}).url == PROFILE
    assert visitor.get(LOGIN + query).url == PROFILE


def test_a_visitor_who_is_logged_in_is_not_sent_in_a_circle(visitor, ann):
    visitor.force_login(ann)
    assert visitor.get(f"{LOGIN}?next={quote(f'{LOGIN}?next=/x/')}").url == PROFILE
    assert visitor.post(LOGIN, {"phone": NUMBER}).url == PROFILE
    assert not Verification.objects.exists()


def test_a_number_without_an_account(visitor, outbox):
    response = visitor.post(call(visitor, "?next=/x/"), {"code": outbox[0].code})
    assert response.url == f"{LOGIN}?next=%2Fx%2F"
    page = visitor.get(response.url)
    assert "There's no account with this phone number." in words(page)
    assert 'role="alert"' in page.content.decode()
    assert "/phone/signup/?next=%2Fx%2F" in page.content.decode()
    assert user_of(visitor) is None
    assert "login" not in visitor.session["django_flashcall_tokens"]
    assert "no account" not in words(visitor.get(LOGIN))  # said once


def test_an_inactive_account(visitor, outbox, ann):
    get_user_model().objects.update(is_active=False)
    assert visitor.post(call(visitor), {"code": outbox[0].code}).url == LOGIN
    assert user_of(visitor) is None


def test_an_unknown_number_becomes_an_account(visitor, outbox, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"})
    page = words(visitor.get(LOGIN))
    assert "No account yet?" not in page
    assert "Log in or sign up by phone" in page
    assert "your account" not in page
    assert visitor.post(call(visitor), {"code": outbox[0].code}).url == PROFILE
    assert user_of(visitor) == str(get_user_model().objects.get().pk)
    assert Phone.objects.get().owner == get_user_model().objects.get()


def test_an_account_that_cannot_be_made_as_its_number_is_taken(visitor, outbox, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"}, USER_PHONE_FIELD="username")
    get_user_model().objects.create_user(NUMBER)
    response = visitor.post(call(visitor), {"code": outbox[0].code})
    assert "An account with this phone number already exists." in words(visitor.get(response.url))


def test_somebody_who_knew_the_session_before_gets_nothing(visitor, outbox, ann):
    visitor.get(LOGIN)
    check = call(visitor)
    thief = Client()
    thief.cookies["sessionid"] = visitor.session.session_key
    assert visitor.post(check, {"code": outbox[0].code}).url == PROFILE
    assert user_of(thief) is None
    assert thief.get(check).status_code == 404


def test_the_signal_is_sent_once(visitor, outbox, ann):
    heard = []

    def hear(**kwargs):
        heard.append(kwargs["user"])

    user_logged_in.connect(hear)
    try:
        check = call(visitor)
        for _ in range(2):
            visitor.post(check, {"code": outbox[0].code})
    finally:
        user_logged_in.disconnect(hear)
    assert heard == [ann]


def test_a_form_of_a_foreign_page_is_refused(visitor, outbox):
    visitor.handler.enforce_csrf_checks = True
    assert visitor.post(LOGIN, {"phone": NUMBER}).status_code == 403
    assert outbox == []


def test_cancelling_leads_back(visitor, outbox):
    check = call(visitor, "?next=/x/")
    assert visitor.post(f"{check[: -len('?next=%2Fx%2F')]}cancel/?next=/x/").url.startswith(LOGIN)


def test_the_page_of_a_site_without_the_purpose(visitor, configure):
    configure(PURPOSES={"signup": {}})
    assert Client().get(LOGIN).status_code == 404


def test_the_page_and_the_code_are_the_same_without_an_account(visitor, outbox, ann, monkeypatch):
    """Until the right code, known and unknown numbers take the same statements and answers."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from django_flashcall import services

    monkeypatch.setattr(budget, "_made", None)  # the tables were rolled back
    stranger = "+79161234568"
    services.start(stranger)

    def journey(number):
        browser, steps = Client(), []
        browser.get(LOGIN)
        for step in ("start", "page", "wrong"):
            with CaptureQueriesContext(connection) as captured:
                if step == "start":
                    response = browser.post(LOGIN, {"phone": number})
                    check = response.url
                elif step == "page":
                    response = browser.get(check)
                else:
                    response = browser.post(check, {"code": wrong(outbox[-1].code)})
            shown = words(response).replace(number[-4:], "")
            steps.append((response.status_code, shown, len(statements(captured))))
        return steps

    services.start(NUMBER)
    with_account, without = journey(NUMBER), journey(stranger)
    assert with_account == without


def test_the_link_from_the_start_page_needs_nothing_else(visitor, outbox, ann):
    """`?purpose=login` on the page that asks for a number does the same."""
    check = visitor.post(f"{START}?purpose=login", {"phone": NUMBER}).url
    assert visitor.post(check, {"code": outbox[0].code}).url == PROFILE
    assert user_of(visitor) == str(ann.pk)


# My number.

NUMBER_PAGE = "/phone/number/"
CHANGE = "/phone/number/change/"
REMOVE = "/phone/number/remove/"
OTHER = "+79161234568"


def test_my_number_is_for_logged_in_users(visitor, settings):
    settings.LOGIN_URL = "django_flashcall:login"
    for path in (NUMBER_PAGE, CHANGE, REMOVE):
        assert visitor.get(path).url == f"{LOGIN}?next={path}"
        assert visitor.post(path).url == f"{LOGIN}?next={path}"


def test_my_number(visitor, ann):
    visitor.force_login(ann)
    page = visitor.get(NUMBER_PAGE)
    assert "+7******4567" in words(page)
    assert NUMBER not in page.content.decode()
    for path in (CHANGE, REMOVE):
        assert f'href="{path}"' in page.content.decode()


def test_no_number_yet(visitor):
    visitor.force_login(get_user_model().objects.create_user("bob"))
    page = visitor.get(NUMBER_PAGE)
    assert "You have no verified phone number." in words(page)
    assert "Add a number" in words(page)
    assert "Add your number" in words(visitor.get(CHANGE))
    assert visitor.get(REMOVE).url == NUMBER_PAGE
    assert visitor.post(REMOVE).url == NUMBER_PAGE


def test_changing_the_number(visitor, outbox, ann):
    visitor.force_login(ann)
    assert "Your number is +7******4567." in words(visitor.get(CHANGE))
    check = visitor.post(CHANGE, {"phone": OTHER}).url
    assert visitor.post(f"{check}cancel/").url == CHANGE
    check = visitor.post(CHANGE, {"phone": OTHER}).url
    assert visitor.post(check, {"code": outbox[-1].code}).url == NUMBER_PAGE
    assert "+7******4568" in words(visitor.get(NUMBER_PAGE))
    assert Phone.objects.get(owner=ann).number == OTHER
    assert f'href="{NUMBER_PAGE}"' in visitor.get(check).content.decode()


def test_changing_it_leads_to_next(visitor, outbox, ann):
    visitor.force_login(ann)
    assert '"/phone/number/?next=%2Fx%2F"' in visitor.get(f"{CHANGE}?next=/x/").content.decode()
    check = visitor.post(f"{CHANGE}?next=/x/", {"phone": OTHER}).url
    assert visitor.post(check, {"code": outbox[-1].code}).url == "/x/"


def test_changing_to_the_number_of_somebody_else(visitor, outbox, ann):
    bob = get_user_model().objects.create_user("bob")
    visitor.force_login(bob)
    check = visitor.post(CHANGE, {"phone": NUMBER}).url
    response = visitor.post(check, {"code": outbox[-1].code})
    assert response.url == "/phone/taken/"
    assert "This number has an account already" in words(visitor.get(response.url))
    assert Phone.objects.get().owner == ann
    assert "change" not in visitor.session["django_flashcall_tokens"]
    assert visitor.get("/phone/done/").url == START  # the number is not theirs


def test_a_number_that_was_removed_is_no_longer_shown_as_verified(visitor, outbox, ann):
    visitor.force_login(ann)
    check = visitor.post(CHANGE, {"phone": OTHER}).url
    visitor.post(check, {"code": outbox[-1].code})
    assert "+7******4568" in words(visitor.get("/phone/done/"))
    visitor.post(REMOVE)
    assert visitor.get("/phone/done/").url == START


@pytest.mark.parametrize("phone", [NUMBER, OTHER])
def test_a_number_verified_for_the_site_is_shown_to_a_user_without_one(
    visitor, outbox, ann, configure, phone
):
    configure(PURPOSES={"signup": {}, "order": {}}, COOLDOWN=0)
    visitor.force_login(get_user_model().objects.create_user("bob"))
    check = visitor.post(f"{START}?purpose=order", {"phone": phone}).url
    visitor.post(check, {"code": outbox[-1].code})
    assert phones.mask(phone) in words(visitor.get("/phone/done/"))


def test_removing_the_number(visitor, ann):
    visitor.force_login(ann)
    assert "Remove your number?" in words(visitor.get(REMOVE))
    assert Phone.objects.get().owner == ann
    for _ in range(2):  # the second click changes nothing
        assert visitor.post(REMOVE).url == NUMBER_PAGE
        assert Phone.objects.get().owner is None


def test_a_site_whose_accounts_need_a_number(visitor, ann, configure):
    configure(USER_PHONE_FIELD="username")
    visitor.force_login(ann)
    assert REMOVE not in visitor.get(NUMBER_PAGE).content.decode()
    assert visitor.get(REMOVE).url == NUMBER_PAGE
    page = visitor.post(REMOVE)
    assert errors(page) == {"__all__": ["Your account needs a phone number. You can change it."]}
    assert Phone.objects.get().owner == ann


def test_pages_of_a_site_without_the_purpose(visitor, configure, ann):
    configure(PURPOSES={"signup": {}})
    visitor.force_login(ann)
    assert CHANGE not in visitor.get(NUMBER_PAGE).content.decode()
    assert "log in with it" not in words(visitor.get(REMOVE))
    other = Client()
    other.force_login(ann)
    assert other.get(CHANGE).status_code == 404


# The password again.


def asks_for_the_password(request):
    from django.shortcuts import redirect

    if request.session.get("confirmed"):
        return True
    return redirect(f"/password/?next={request.path}")


def refuses(request):
    return bool(request.session.get("confirmed"))


@pytest.fixture
def pages_that_change(visitor, outbox, ann):
    """Every POST that changes the number of the user, with its data; and a start of each."""
    visitor.force_login(ann)
    changes = visitor.post(CHANGE, {"phone": OTHER}).url
    code = outbox[-1].code
    signs_up = visitor.post(START, {"phone": "+79161234569"}).url
    return {
        CHANGE: {"phone": OTHER},
        START: {"phone": OTHER},
        REMOVE: {},
        changes: {"code": code},
        signs_up: {"code": outbox[-1].code},
    }


def confirm(visitor):
    session = visitor.session
    session["confirmed"] = True
    session.save()


def test_the_site_asks_for_the_password_on_a_page_of_its_own(
    visitor, outbox, ann, configure, pages_that_change
):
    configure(REAUTHENTICATE=f"{__name__}.asks_for_the_password")
    outbox.clear()
    for path, data in pages_that_change.items():
        assert visitor.post(path, data).url == f"/password/?next={path}"
    assert outbox == []
    assert Phone.objects.get(owner=ann).number == NUMBER
    assert visitor.get(CHANGE).url == f"/password/?next={CHANGE}"
    confirm(visitor)
    assert visitor.get(CHANGE).status_code == 200
    check = next(path for path, data in pages_that_change.items() if "code" in data)
    assert visitor.post(check, pages_that_change[check]).url == NUMBER_PAGE
    assert visitor.post(REMOVE).url == NUMBER_PAGE


def test_the_site_refuses(visitor, outbox, ann, configure, pages_that_change):
    configure(REAUTHENTICATE=f"{__name__}.refuses")
    outbox.clear()
    for path, data in pages_that_change.items():
        response = visitor.post(path, data)
        if response.status_code == 302:
            response = visitor.get(response.url)
        assert errors(response) == {"__all__": ["Enter your password again, then try again."]}
    assert outbox == []
    assert Phone.objects.get(owner=ann).number == NUMBER
    assert Verification.objects.filter(state="pending").count() == 2  # no attempt was spent
    assert visitor.get(CHANGE).status_code == 200


@pytest.mark.parametrize("code", ["", "x", "123456"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_number_that_is_verified_elsewhere_is_not_set_without_the_password(
    visitor, outbox, ann, configure, code, bound
):
    """Whoever has a session of the user only knows the id of their own verification."""
    visitor.force_login(ann)
    verification = services.start(OTHER, purpose="change", user=ann if bound else None)
    services.check(verification, outbox[-1].code)
    Verification.objects.update(verified_at=timezone.now() - timedelta(seconds=60))
    configure(REAUTHENTICATE=f"{__name__}.refuses")
    path = f"/phone/{verification.pk}/"
    assert visitor.post(path, {"code": code}).url == path
    assert Phone.objects.get(owner=ann).number == NUMBER
    if bound:
        confirm(visitor)
        assert visitor.post(path, {"code": code}).url == NUMBER_PAGE
        assert Phone.objects.get(owner=ann).number == OTHER


def test_login_and_signup_of_others_ask_for_no_password(visitor, outbox, ann, configure):
    configure(REAUTHENTICATE=f"{__name__}.refuses")
    assert visitor.post(call(visitor), {"code": outbox[-1].code}).url == PROFILE
