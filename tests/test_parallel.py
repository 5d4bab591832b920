"""Fifty at once, with threads and connections of their own, under ``ATOMIC_REQUESTS``.

Runs on SQLite and on PostgreSQL: what must happen once happens once on either.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model, user_logged_in
from django.contrib.sessions.models import Session
from django.db import connections
from django.db.models import Sum
from django.utils import timezone
from rest_framework.test import APIClient

from django_flashcall import services
from django_flashcall.models import (
    Attempt,
    Call,
    CallCount,
    GuardDecision,
    GuardRequest,
    Phone,
    Refusal,
    Verification,
)
from django_flashcall.protection import budget, fraud_guard, visitors
from django_flashcall.verification import in_flight

from .test_services import wrong

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+79161234567"
THREADS = 50


@pytest.fixture(autouse=True)
def all_at_once(monkeypatch, configure):
    # The threads are one process: here, none of them is turned away for the others' calls.
    configure(MAX_CALLS_IN_FLIGHT=THREADS)
    monkeypatch.setattr(budget, "_made", None)  # the tables were emptied
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


def at_once(request, times=THREADS):
    """Send a request from many threads at the same moment; count the answers."""
    barrier = threading.Barrier(times)

    def send(number):
        client = APIClient(raise_request_exception=True)
        try:
            barrier.wait()
            response = request(client, number)
            body = response.json() if response.content else {}
            return response.status_code, body.get("error_code")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return Counter(pool.map(send, range(times)))


def started(outbox):
    response = APIClient().post("/api/verifications/", {"phone": NUMBER}, format="json")
    assert response.status_code == 201
    return f"/api/verifications/{response.json()['id']}/", outbox[-1].code


def test_wrong_codes(outbox):
    path, code = started(outbox)
    data = {"code": wrong(code)}
    answers = at_once(lambda client, _: client.post(f"{path}check/", data, format="json"))
    assert answers == {(400, "wrong_code"): 3, (429, "too_many_attempts"): THREADS - 3}
    assert Attempt.objects.count() == 3
    assert Phone.objects.get().failures == 3
    assert Verification.objects.get().status == "failed"


def test_the_right_code(outbox):
    path, code = started(outbox)
    data = {"code": code}
    answers = at_once(lambda client, _: client.post(f"{path}check/", data, format="json"))
    assert answers == {(200, None): 1, (400, "already_verified"): THREADS - 1}
    assert Verification.objects.get().attempts_left == 2


def test_starts_for_a_new_number(outbox):
    data = {"phone": NUMBER}
    answers = at_once(lambda client, _: client.post("/api/verifications/", data, format="json"))
    assert answers == {(201, None): 1, (429, "cooldown"): THREADS - 1}
    assert len(outbox) == Call.objects.count() == Verification.objects.count() == 1


@pytest.mark.parametrize(("times", "slots"), [(2, 2), (THREADS, 1)])
@pytest.mark.parametrize("known", [False, True])
def test_a_crowd_at_one_number_keeps_no_slots(outbox, configure, known, times, slots):
    configure(MAX_CALLS_IN_FLIGHT=slots)
    if known:
        Phone.objects.create(number=NUMBER)
    data = {"phone": NUMBER}
    answers = at_once(
        lambda client, _: client.post("/api/verifications/", data, format="json"), times
    )
    assert answers.pop((201, None)) == len(outbox) == Call.objects.count() == 1
    # Where there are enough slots, who comes late learns that the number was just called.
    busy = {(503, "provider_unavailable")} if slots < times else set()
    assert answers.keys() <= {(429, "cooldown"), *busy}
    assert in_flight.count() == 0


def test_starts_for_many_numbers(outbox):
    """Their counters deadlock nobody, and lose nothing."""
    answers = at_once(
        lambda client, n: client.post(
            "/api/verifications/",
            {"phone": f"+7916123{n:04d}"},
            format="json",
            REMOTE_ADDR=f"203.0.113.{n}",
        )
    )
    assert answers == {(201, None): THREADS}
    assert len(outbox) == Call.objects.count() == THREADS
    assert CallCount.objects.aggregate(calls=Sum("calls")) == {"calls": THREADS}


@pytest.fixture
def narrowed(outbox):
    """A range that nobody completes calls to."""
    for n in range(8):
        services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
    Call.objects.update(created_at=timezone.now() - timedelta(minutes=30))
    outbox.clear()


def start_in_range(client, n):
    return client.post(
        "/api/verifications/",
        {"phone": f"+79161235{n:03d}"},
        format="json",
        REMOTE_ADDR=f"203.0.113.{n}",
    )


def test_one_of_many_passes_into_a_narrowed_range(outbox, narrowed):
    assert at_once(start_in_range) == {(201, None): 1, (429, "too_many_calls"): THREADS - 1}
    assert len(outbox) == 1
    decision = GuardDecision.objects.get()
    assert decision.passed == 1


def test_one_of_many_who_come_back_passes_into_a_narrowed_range(outbox, narrowed):
    at_once(start_in_range)
    outbox.clear()
    asked_at = timezone.now() - timedelta(minutes=6)
    GuardRequest.objects.all().delete()
    GuardRequest.objects.bulk_create(
        GuardRequest(
            key=fraud_guard.request_key(f"+79161235{n:03d}", visitors.source(f"203.0.113.{n}")),
            prefix="+7916123",
            asked_at=asked_at,
        )
        for n in range(THREADS)
    )
    Phone.objects.update(last_called_at=None)
    assert at_once(start_in_range) == {(201, None): 1, (429, "too_many_calls"): THREADS - 1}
    assert len(outbox) == 1
    assert GuardRequest.objects.count() == THREADS - 1


def test_starts_for_a_known_number(outbox):
    Phone.objects.create(number=NUMBER)
    data = {"phone": NUMBER}
    answers = at_once(lambda client, _: client.post("/api/verifications/", data, format="json"))
    assert answers == {(201, None): 1, (429, "cooldown"): THREADS - 1}
    assert len(outbox) == Call.objects.count() == 1


def test_starts_without_a_cooldown_stop_at_the_limit_of_the_number(outbox, configure):
    configure(COOLDOWN=0, CALLS_PER_PHONE="5/day")

    def start(client, number):
        address = f"203.0.113.{number}"
        data = {"phone": NUMBER}
        return client.post("/api/verifications/", data, format="json", REMOTE_ADDR=address)

    answers = at_once(start)
    assert answers == {(201, None): 5, (429, "too_many_calls"): THREADS - 5}
    assert len(outbox) == Call.objects.count() == 5


def test_resends(outbox, configure):
    configure(COOLDOWN=0)
    path, _ = started(outbox)
    answers = at_once(lambda client, _: client.post(f"{path}resend/", {}, format="json"))
    assert answers == {(200, None): 2, (429, "too_many_calls"): THREADS - 2}
    assert len(outbox) == Call.objects.count() == 3


def test_signups_with_one_token(outbox):
    path, code = started(outbox)
    token = APIClient().post(f"{path}check/", {"code": code}, format="json").json()["token"]

    def signup(client, number):
        data = {
            "phone_token": token,
            "username": f"user{number}",
            "email": "a@example.com",
            "password": "correct horse 9",
        }
        return client.post("/api/signup/", data, format="json")

    answers = at_once(signup)
    assert answers == {(201, None): 1, (400, "invalid_token"): THREADS - 1}
    assert get_user_model().objects.count() == 1
    assert Phone.objects.get().owner == get_user_model().objects.get()


def test_signups_with_many_tokens_of_one_number(outbox, configure):
    configure(COOLDOWN=0, CALLS_PER_PHONE="100/day")
    tokens = []
    for _ in range(10):
        path, code = started(outbox)
        response = APIClient().post(f"{path}check/", {"code": code}, format="json")
        tokens.append(response.json()["token"])

    def signup(client, number):
        data = {
            "phone_token": tokens[number],
            "username": f"user{number}",
            "email": "a@example.com",
            "password": "correct horse 9",
        }
        return client.post("/api/signup/", data, format="json")

    answers = at_once(signup, times=10)
    assert answers == {(201, None): 1, (400, "phone_taken"): 9}
    assert get_user_model().objects.count() == 1


def test_a_name_taken_at_the_same_moment_is_an_error_of_its_field(outbox):
    tokens = []
    for last in range(10):
        number = f"+7916123456{last}"
        response = APIClient().post("/api/verifications/", {"phone": number}, format="json")
        path = f"/api/verifications/{response.json()['id']}/check/"
        response = APIClient().post(path, {"code": outbox[-1].code}, format="json")
        tokens.append(response.json()["token"])

    def signup(client, number):
        data = {
            "phone_token": tokens[number],
            "username": "ann",
            "email": "a@example.com",
            "password": "correct horse 9",
        }
        return client.post("/api/signup/", data, format="json")

    assert at_once(signup, times=10) == {(201, None): 1, (400, "invalid"): 9}
    assert get_user_model().objects.count() == 1
    assert Verification.objects.filter(state="redeemed").count() == 1


def test_starts_for_many_numbers_overshoot_a_wide_limit_by_those_in_flight_at_most(
    outbox, configure
):
    configure(
        CALLS_PER_IP="10/hour",
        CALLS_PER_PREFIX=None,
        FRAUD_GUARD="off",
        MAX_CALLS_IN_FLIGHT=THREADS,
    )

    def start(client, n):
        data = {"phone": f"+7916{n:03d}4567"}
        return client.post("/api/verifications/", data, format="json")

    answers = at_once(start)
    assert answers[201, None] >= 10
    assert answers[201, None] + answers[429, "too_many_calls"] == THREADS
    late = at_once(lambda client, _: start(client, THREADS), 1)
    assert late == {(429, "too_many_calls"): 1}


def test_refusals_are_counted_exactly(outbox, configure):
    configure(CALLS_TOTAL="1/day")
    started(outbox)

    def start(client, n):
        data = {"phone": f"+7916{n:03d}4567"}
        return client.post("/api/verifications/", data, format="json")

    assert at_once(start) == {(429, "too_many_calls"): THREADS}
    assert sum(row.count for row in Refusal.objects.filter(reason="too_many_calls")) == THREADS


def tokens_of(outbox, times, purpose="login", number=NUMBER):
    """Verify a number several times; return the tokens."""
    found = []
    for _ in range(times):
        start = {"phone": number, "purpose": purpose}
        response = APIClient().post("/api/verifications/", start, format="json")
        path = f"/api/verifications/{response.json()['id']}/check/"
        response = APIClient().post(path, {"code": outbox[-1].code}, format="json")
        found.append(response.json()["token"])
    return found


def test_logins_with_one_token(outbox):
    ann = get_user_model().objects.create_user("ann")
    Phone.objects.create(number=NUMBER, owner=ann)
    (token,) = tokens_of(outbox, 1)
    heard = []

    def log_in(client, _):
        return client.post("/api/login/", {"phone_token": token}, format="json")

    def hear(**kwargs):
        heard.append(kwargs["user"])

    user_logged_in.connect(hear)
    try:
        answers = at_once(log_in)
    finally:
        user_logged_in.disconnect(hear)
    assert answers == {(200, None): 1, (400, "invalid_token"): THREADS - 1}
    assert heard == [ann]
    assert Session.objects.count() == 1


def test_first_logins_with_many_tokens_of_one_number_create_one_account(outbox, configure):
    configure(COOLDOWN=0, CALLS_PER_PHONE="100/day", LOGIN={"UNKNOWN_NUMBER": "sign_up"})
    tokens = tokens_of(outbox, 10)

    def log_in(client, n):
        return client.post("/api/login/", {"phone_token": tokens[n]}, format="json")

    assert at_once(log_in, times=10) == {(200, None): 10}
    assert Phone.objects.get().owner == get_user_model().objects.get()
    assert Session.objects.count() == 10


def test_users_who_verify_a_number_that_can_be_moved(outbox, configure):
    """One of them gets it: then it was verified a moment ago, and moves no more."""
    configure(COOLDOWN=0, CALLS_PER_PHONE="100/day", REASSIGNED_NUMBERS=30)
    create = get_user_model().objects.create_user
    users = [create(f"user{n}") for n in range(10)]
    at = timezone.now() - timedelta(days=31)
    Phone.objects.create(number=NUMBER, owner=create("old"), verified_at=at)
    tokens = tokens_of(outbox, 10, purpose="change")

    def change(client, n):
        client.force_authenticate(users[n])
        return client.post("/api/phone/", {"phone_token": tokens[n]}, format="json")

    assert at_once(change, times=10) == {(200, None): 1, (400, "phone_taken"): 9}
    redeemed = Verification.objects.get(state="redeemed")
    assert redeemed.former_owner.username == "old"
    assert Phone.objects.get().owner == redeemed.redeemed_by


def test_changes_of_one_user_leave_one_number(outbox, configure):
    configure(COOLDOWN=0, CALLS_PER_IP=None, CALLS_PER_PREFIX=None)
    ann = get_user_model().objects.create_user("ann")
    numbers = [f"+7916123456{n}" for n in range(10)]
    tokens = [tokens_of(outbox, 1, purpose="change", number=number)[0] for number in numbers]

    def change(client, n):
        client.force_authenticate(ann)
        if n == 0:
            return client.delete("/api/phone/")
        return client.post("/api/phone/", {"phone_token": tokens[n]}, format="json")

    answers = at_once(change, times=10)
    assert answers[200, None] == 9
    assert Phone.objects.filter(owner=ann).count() <= 1
