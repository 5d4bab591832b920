"""The challenge of the extra `altcha`: asked for before refusing, solved once, over real HTTP."""

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import requests
import time_machine
from altcha import v1
from django.utils import timezone

from django_flashcall import services
from django_flashcall.contrib import altcha
from django_flashcall.models import Call, GuardDecision, GuardRequest

pytestmark = pytest.mark.django_db(transaction=True)


def solve(offered):
    found = v1.solve_challenge(
        offered["challenge"], offered["salt"], offered["algorithm"], offered["maxnumber"]
    )
    answer = {name: offered[name] for name in ("algorithm", "challenge", "salt", "signature")}
    return base64.b64encode(json.dumps({**answer, "number": found.number}).encode()).decode()


@pytest.fixture
def narrowed(outbox, configure):
    """A range that is narrowed, and a site with the challenge."""
    for n in range(8):
        services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
    Call.objects.update(created_at=timezone.now() - timedelta(minutes=30))
    configure(CHALLENGE="django_flashcall.contrib.altcha.is_solved")


@pytest.fixture
def server(live_server):
    def request(method, path, data=None, solution=""):
        headers = {"Flashcall-Challenge": solution} if solution else {}
        url = f"{live_server.url}/api/{path}"
        return requests.request(method, url, json=data, headers=headers, timeout=30)

    return request


def start(server, n=5000, solution=""):
    return server("POST", "verifications/", {"phone": f"+7916123{n:04d}"}, solution)


def test_it_is_asked_for_before_anything_is_refused(server, narrowed):
    answer = start(server)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "challenge_required")
    offered = server("GET", "challenge/").json()
    assert start(server, solution=solve(offered)).status_code == 201
    assert Call.objects.count() == 9


def test_where_nothing_is_suspicious_it_is_not(server, narrowed):
    answer = server("POST", "verifications/", {"phone": "+79169994567"})
    assert answer.status_code == 201


def test_a_solution_is_used_once(server, narrowed):
    solution = solve(server("GET", "challenge/").json())
    assert start(server, solution=solution).status_code == 201
    assert start(server, 5001, solution).json()["error_code"] == "challenge_required"


def test_many_at_once_with_one_solution(narrowed, rf):
    solution = solve(altcha.is_solved.offer())
    barrier = Barrier(20)

    def use(_):
        from django.db import connections

        try:
            barrier.wait()
            return altcha.is_solved(rf.post("/", headers={altcha.HEADER: solution}))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert Counter(pool.map(use, range(20))) == {True: 1, False: 19}


def test_solved_ones_pass_within_a_limit(server, narrowed):
    """Nobody completes these calls either: fewer and fewer pass."""
    codes = []
    for n in range(5):
        solution = solve(server("GET", "challenge/").json())
        codes.append(start(server, 5000 + n, solution).json().get("error_code"))
    assert codes == [None, None, "too_many_calls", "too_many_calls", "too_many_calls"]
    assert GuardDecision.objects.get().passed == 2


def test_who_is_known_is_not_asked(server, narrowed, live_server):
    number = "+79161235000"
    headers = {"Flashcall-Device": services.issue_device(number)}
    url = f"{live_server.url}/api/verifications/"
    assert requests.post(url, json={"phone": number}, headers=headers, timeout=30).ok


def test_it_expires(narrowed, rf):
    with time_machine.travel(timezone.now() - timedelta(minutes=11), tick=False):
        solution = solve(altcha.is_solved.offer())
    assert not altcha.is_solved(rf.post("/", headers={altcha.HEADER: solution}))


def test_the_secret_key_is_rotated(narrowed, rf, settings):
    solution = solve(altcha.is_solved.offer())
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key of the tests, which keeps nothing"
    assert altcha.is_solved(rf.post("/", {"altcha": solution}))


@pytest.mark.parametrize(
    "change",
    [
        {"number": -1},
        {"signature": "00"},
        {"salt": "00?expires=9999999999&"},
        {"algorithm": "SHA-1"},
        {"salt": None},
        {"challenge": []},
    ],
    ids=str,
)
def test_what_is_no_solution(narrowed, rf, change):
    right = json.loads(base64.b64decode(solve(altcha.is_solved.offer())))
    wrong = base64.b64encode(json.dumps({**right, **change}).encode()).decode()
    for solution in (wrong, "x", "", "e30=", "bnVsbA==", "W10=", "W1tb" * 500, "x" * 5000):
        assert not altcha.is_solved(rf.post("/", {"altcha": solution}))
    assert not GuardRequest.objects.exists()


def test_a_site_without_it_offers_none(server, configure):
    assert server("GET", "challenge/").status_code == 404
    configure(CHALLENGE="tests.test_views.says_no")
    assert server("GET", "challenge/").status_code == 404
