"""Many people at once in a real web server: on SQLite, and while the provider does not respond."""

import html
import random
import re
import sqlite3
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
import requests

from django_flashcall.conf import conf
from django_flashcall.exceptions import ProviderUnavailable

from . import raw_server
from .processes import wait_until
from .test_checks import WAITING
from .web_server import PROCESSES, gunicorn, patient

pytestmark = pytest.mark.django_db  # none of it is used: the server has its own

DATABASE = "db.sqlite3"
PEOPLE = 200
PASSWORD = "correct horse 9"
WATCHDOG = 120


@pytest.fixture
def site(tmp_path, provider, settings):
    """Serve a site on SQLite; the simulator is its provider."""

    def site(options, **keys):
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / DATABASE),
            "OPTIONS": options,
        }
        # Each visitor has an address and a range of numbers of their own.
        flashcall = {**settings.FLASHCALL, "TRUSTED_PROXIES": 1, **keys}
        return gunicorn(tmp_path, database, flashcall)

    return site


class Visitor:
    """Somebody at an address and with a number of their own, who tries again after a 503."""

    def __init__(self, port, number):
        self.url = f"http://127.0.0.1:{port}/"
        self.number = f"+7916{number:03d}0000"
        self.name = f"user{number}"
        self.answers = Counter()
        self.session = requests.Session()
        self.session.headers["X-Forwarded-For"] = f"10.{number // 250}.{number % 250}.1"

    def request(self, method, path, **request):
        """Send it, and note status, `error_code` and whether there is a `Retry-After`."""
        answer = self.session.request(method, self.url + path, timeout=WATCHDOG, **request)
        is_json = answer.headers["Content-Type"] == "application/json"
        error_code = answer.json().get("error_code") if is_json else None
        self.answers[answer.status_code, error_code, "Retry-After" in answer.headers] += 1
        return answer

    def patiently(self, method, path, **request):
        while (answer := self.request(method, path, **request)).status_code == 503:
            time.sleep(random.random())  # the time of `Retry-After`, shortened
        return answer

    def post(self, path, **data):
        answer = self.patiently("POST", f"api/{path}", json=data)
        assert answer.ok, answer.text
        return answer.json()

    def sign_up_in_an_app(self, provider):
        verification = self.post("verifications/", phone=self.number)
        code = provider.last_call(self.number).code
        token = self.post(f"verifications/{verification['id']}/check/", code=code)["token"]
        account = {"username": self.name, "email": "", "password": PASSWORD}
        self.post("signup/", phone_token=token, **account)

    def submit(self, page, **data):
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', page.text)[1]
        path = page.url.removeprefix(self.url)
        return self.patiently("POST", path, data={**data, "csrfmiddlewaretoken": token})

    def sign_up_on_the_pages(self, provider):
        """Sign up. Start again if the session was not saved (503) after the code was right.

        If it was not saved after the account was created, they could log in.
        """
        page = self.patiently("GET", "phone/?next=/phone/signup/")
        page = self.submit(page, phone=self.number)
        while html.escape(str(ProviderUnavailable.message)) in page.text:  # an error of the form
            self.answers[200, "provider_unavailable", False] += 1
            time.sleep(random.random())
            page = self.submit(page, phone=self.number)
        before = self.answers[503, None, True]
        page = self.submit(page, code=provider.last_call(self.number).code)
        if self.answers[503, None, True] > before and not page.url.endswith("/signup/"):
            self.sign_up_on_the_pages(provider)
            return
        before = self.answers[503, None, True]
        page = self.submit(page, username=self.name, email="", password=PASSWORD)
        is_lost = self.answers[503, None, True] > before
        assert page.url.endswith("/phone/done/") or is_lost, page.text


@pytest.mark.parametrize("options", [{}, WAITING], ids=["as startproject writes it", "waiting"])
def test_two_hundred_people_at_once_on_sqlite(site, provider, options, tmp_path):
    with site(options, COOLDOWN=0) as port:
        visitors = [Visitor(port, number) for number in range(PEOPLE)]
        barrier = threading.Barrier(PEOPLE)

        def sign_up(visitor):
            barrier.wait(WATCHDOG)
            if int(visitor.name[4:]) % 2:
                visitor.sign_up_in_an_app(provider)
            else:
                visitor.sign_up_on_the_pages(provider)

        with ThreadPoolExecutor(PEOPLE) as pool:
            list(pool.map(sign_up, visitors))
    answers = sum((visitor.answers for visitor in visitors), Counter())
    # As many calls as fit wait for the provider. Where requests wait for the database, they get it.
    errors = {answer: number for answer, number in answers.items() if answer[0] >= 400}
    errors.pop((503, "provider_unavailable", True), None)
    if not options:  # a page has no `error_code`
        assert sum(errors.pop((503, code, True), 0) for code in ("unavailable", None)) < PEOPLE
        assert errors.pop((404, None, False), 0) < PEOPLE / 10  # the session lost what it started
    assert not errors, answers
    assert {call.number for call in provider.calls} == {visitor.number for visitor in visitors}
    if options:
        assert len(provider.calls) == PEOPLE
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        names = {name for (name,) in database.execute("SELECT username FROM auth_user")}
    assert names == {visitor.name for visitor in visitors}


def test_a_provider_that_does_not_respond_leaves_the_site_to_others(site, settings):
    """40 people start at once; the site serves everyone else while some of them still wait."""
    starting, others = 40, 100
    respond = threading.Event()

    def behave(server, connection):
        server.read(connection)
        respond.wait(WATCHDOG)
        connection.sendall(raw_server.answer())

    with ExitStack() as stack:
        silent = stack.enter_context(raw_server.Server(behave))
        port = stack.enter_context(site(WAITING, **patient(silent.url)))
        pool = stack.enter_context(ThreadPoolExecutor(starting))
        stack.callback(respond.set)

        def start(visitor):
            return visitor.request("POST", "api/verifications/", json={"phone": visitor.number})

        visitors = [Visitor(port, number) for number in range(starting)]
        starts = [pool.submit(start, visitor) for visitor in visitors]
        wait_until(
            lambda: sum(s.done() for s in starts) + len(silent.requests) == starting, "a start"
        )
        waiting = [request for request in starts if not request.done()]
        assert 0 < len(waiting) <= PROCESSES * conf.MAX_CALLS_IN_FLIGHT

        other = Visitor(port, starting)
        for _ in range(others):
            other.request("GET", "admin/login/")
            other.request("GET", f"api/verifications/{uuid.uuid4()}/")
        assert other.answers == {(200, None, False): others, (404, "not_found", False): others}
        assert not any(request.done() for request in waiting)

        respond.set()
        assert {request.result(WATCHDOG).status_code for request in waiting} == {201}
        assert len(silent.requests) == len(waiting)
    answers = sum((visitor.answers for visitor in visitors), Counter())
    refused = starting - len(waiting)
    assert answers == {
        (201, None, False): len(waiting),
        (503, "provider_unavailable", True): refused,
    }
