"""Whoever starts and checks learns nothing about which numbers and accounts a site knows."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_flashcall import services
from django_flashcall.models import Phone
from django_flashcall.protection import budget

from .test_services import wrong

pytestmark = pytest.mark.django_db

NEW, SEEN, VERIFIED, OWNED = (f"+791612345{n}" for n in (60, 61, 62, 63))


@pytest.fixture(autouse=True)
def known(outbox, configure, monkeypatch):
    """A number that was called, one that was verified, and one that has an account."""
    configure(COOLDOWN=0)
    monkeypatch.setattr(budget, "_made", None)  # the tables were rolled back
    services.start(SEEN)
    for number in (VERIFIED, OWNED):
        token = services.check(services.start(number), outbox[-1].code)
    services.redeem(token, user=get_user_model().objects.create_user("ann"))
    assert Phone.objects.get(number=OWNED).owner


def shape(answer):
    """An answer without what differs between any two verifications."""
    content = dict(answer.json())
    for name in ("id", "phone", "expires_at", "resend_at", "token", "device"):
        content.pop(name, None)
    return answer.status_code, content, sorted(answer.headers)


def statements(captured):
    """The statements of a request, without their values."""
    kinds = [re.sub(r"'[^']*'|\b[0-9a-f]{32}\b|\d+", "?", q["sql"]) for q in captured]
    return [kind for kind in kinds if not kind.startswith(("SAVEPOINT", "RELEASE"))]


def journey(api, outbox, number):
    """Start, guess wrong, guess right; return answers and statements of each."""
    steps = []

    def post(path, **data):
        with CaptureQueriesContext(connection) as captured:
            answer = api.post(f"/api/verifications/{path}", data, format="json")
        steps.append((shape(answer), statements(captured)))
        assert answer.status_code < 429, answer.json()
        return answer.json()

    id = post("", phone=number)["id"]
    post(f"{id}/check/", code=wrong(outbox[-1].code))
    post(f"{id}/check/", code=outbox[-1].code)
    return steps


def test_an_account_makes_no_difference(api, outbox):
    without, with_one = (journey(api, outbox, number) for number in (VERIFIED, OWNED))
    assert without == with_one


@pytest.mark.parametrize("number", [NEW, SEEN])
def test_a_number_that_was_never_seen_is_answered_like_any(api, outbox, number):
    answers = [step[0] for step in journey(api, outbox, number)]
    assert answers == [step[0] for step in journey(api, outbox, OWNED)]
    assert answers[0][0] == 201
    assert answers[2][0] == 200


def test_a_new_number_takes_as_many_statements(api, outbox):
    new, owned = (journey(api, outbox, number) for number in (NEW, OWNED))
    assert [len(step[1]) for step in new] == [len(step[1]) for step in owned]
