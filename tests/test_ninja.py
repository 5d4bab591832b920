"""`how-to/ninja.md`: the documented API, asked by HTTP through Django's client."""

import sys
from types import ModuleType

import pytest

from django_flashcall.models import Attempt, Call, Phone

from .documents import DOCS, blocks
from .test_services import wrong

NUMBER = "+79161234567"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def post(monkeypatch, settings, client):
    """Serve the two documented files as a site, and return a function that posts to its API."""
    for name in ("people", "mysite"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for block in blocks(DOCS / "how-to" / "ninja.md"):
        name = block.caption.removesuffix(".py").replace("/", ".")
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(block.text, str(block), "exec"), vars(module))
    settings.ROOT_URLCONF = "mysite.ninja_urls"

    def post(path, content_type="application/json", **given):
        return client.post(f"/api/{path}", given, content_type=content_type)

    return post


def test_a_number_is_verified(post, client, outbox, django_user_model):
    ann = django_user_model.objects.create_user("ann")
    client.force_login(ann)
    started = post("verifications/", phone="8 916 123-45-67")
    assert started.status_code == 201
    assert started.json()["code_length"] == 4
    path = f"verifications/{started.json()['id']}/check/"

    refused = post(path, code=wrong(outbox[-1].code))
    assert refused.status_code == 400
    assert refused.json() == {
        "error_code": "wrong_code",
        "message": refused.json()["message"],
        "attempts_left": 2,
        "retry_after": None,
    }

    checked = post(path, code=outbox[-1].code)
    assert checked.status_code == 200
    assert checked["Cache-Control"] == "no-store"
    token = checked.json()["token"]
    redeemed = post("phone/", phone_token=token)
    assert (redeemed.status_code, redeemed.json()) == (200, {"phone": NUMBER})
    assert Phone.objects.get().owner == ann
    again = post("phone/", phone_token=token)
    assert (again.status_code, again.json()["error_code"]) == (400, "invalid_token")


def test_another_visitor_does_not_see_it(post, client, django_user_model):
    client.force_login(django_user_model.objects.create_user("ann"))
    id = post("verifications/", phone=NUMBER).json()["id"]
    client.logout()
    answer = post(f"verifications/{id}/check/", code="1234")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "not_found")
    assert not Attempt.objects.exists()


def test_a_limit_says_how_long_to_wait(post):
    post("verifications/", phone=NUMBER)
    answer = post("verifications/", phone=NUMBER)
    assert (answer.status_code, answer.json()["error_code"]) == (429, "cooldown")
    assert answer["Retry-After"] == str(answer.json()["retry_after"])


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_form_of_a_foreign_page_places_no_call(post, client, content_type):
    """The body is JSON all the same, as a form of ``enctype="text/plain"`` can send it."""
    body = f'{{"phone": "{NUMBER}", "ignored": "="}}'
    answer = client.post("/api/verifications/", body, content_type=content_type)
    assert answer.status_code == 400
    assert not Call.objects.exists()


def test_what_is_not_understood_is_not_repeated(post):
    id = post("verifications/", phone=NUMBER).json()["id"]
    answer = post(f"verifications/{id}/check/", code=987654)
    assert answer.status_code == 422
    assert "987654" not in answer.content.decode()
