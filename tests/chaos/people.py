"""People who verify their numbers over HTTP, and try again as people do."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin

import requests

from .provider import Provider

ROUNDS = 40
"""Verifications that a person starts before they give up."""

LISTEN = 1
"""Seconds that they wait for a ring before they look at the page or the app."""

PATIENCE = 20
"""How often they look while their call is queued, before they ask for another one."""

WATCHDOG = 60  # seconds for one request


class Answer(NamedTuple):
    """An answer of the site; status 0 if the connection was lost before it came."""

    status: int
    content: Mapping[str, Any]

    @property
    def error_code(self) -> str | None:
        return self.content.get("error_code")


class Person(ABC):
    """Somebody with a number and an address of their own.

    Attributes:
        asked: requests for a call that left, whatever came back.
        typed: verification → the codes sent for it.
        confirmed: verification → the furthest state that the site confirmed.
        right: codes that the site accepted, with their verification.
        answers: status and `error_code` of all answers.
        surprises: answers that nothing explains.
    """

    expected: Collection[tuple[int, str | None]]
    """Status and `error_code` that they can get at any time; others only after a lost answer."""

    @abstractmethod
    def start(self) -> str | None:
        """Ask for a call; return the verification, None if the answer is an error or lost."""

    @abstractmethod
    def send_code(self, id: str, code: str) -> Answer:
        """Send a code; 200 means that it was right."""

    @abstractmethod
    def send_account(self, id: str, token: str) -> Answer:
        """Create the account; 201 means that it exists."""

    @abstractmethod
    def exchange(self, method: str, path: str, data: Any) -> Answer:
        """Send a request and return the answer."""

    def __init__(self, site: str, n: int, seed: str, provider: Provider) -> None:
        self.site = site
        self.number = f"+7916{n % 1000:03d}{n // 1000:04d}"
        self.headers = {"X-Forwarded-For": f"10.{n // 250}.{n % 250}.1"}
        self.name = f"user{n}"
        self.account = {"username": self.name, "email": "", "password": "correct horse 9"}
        self.provider = provider
        self.rng = random.Random(f"{seed}-{n}")
        self.wants_account = self.rng.random() < 0.6
        self.asked = 0
        self.typed: dict[str, list[str]] = {}
        self.confirmed: dict[str, str] = {}
        self.right: list[tuple[str, str]] = []
        self.answers: Counter[tuple[int, str | None]] = Counter()
        self.surprises: list[str] = []
        self.is_verified = False
        self.heard = 0
        self.lost: set[str] = set()

    def go(self, over: threading.Event) -> None:
        """Verify the number, with as many verifications as it takes."""
        for _ in range(ROUNDS):
            if over.is_set():
                return
            started = self.start()
            if started is None:
                over.wait(self.rng.uniform(0.1, 1))
            elif token := self.verify(started, over):
                self.is_verified = True
                if self.wants_account:
                    self.sign_up(started, token, over)
                return

    def begun(self, id: str) -> str:
        self.confirmed.setdefault(id, "pending")
        return id

    def verify(self, id: str, over: threading.Event) -> str | None:
        """Listen, type what was heard, and return the token; None if it takes another start."""
        if self.rng.random() < 0.2:
            answer = self.type(id, self.guess())
            if answer.status in (200, 429):  # one of 10,000 guesses is right
                return answer.content.get("token")
        for listened in range(ROUNDS):
            calls = self.provider.hear(self.number, self.heard, LISTEN)
            if over.is_set():
                return None
            if len(calls) > self.heard:
                self.heard = len(calls)
                for _ in range(ROUNDS):
                    answer = self.type(id, calls[-1].code)
                    is_answered = answer.status != 0 and answer.error_code != "unavailable"
                    if is_answered or over.wait(self.rng.uniform(0.1, 1)):
                        break
                if answer.status == 200:
                    token: str = answer.content["token"]
                    return token
                if answer.error_code != "wrong_code":
                    return None  # it has ended; or it succeeded, and the token was lost
            shown = self.show(id)
            if shown.get("status") not in ("pending", "unavailable", None):
                return None
            is_queued = shown.get("call", {}).get("status") == "queued"
            if is_queued and listened < PATIENCE:  # a worker has yet to place it
                continue
            again = self.ask_again(id)
            if again.error_code == "too_many_calls":
                return None
            if again.status in (0, 429, 503):
                over.wait(self.rng.uniform(0.1, 1))
        return None

    def guess(self) -> str:
        """Return a code that no phone of this person has shown."""
        shown = {call.code for call in self.provider.hear(self.number, 0, 0)}
        codes = (f"{n:04d}" for n in self.rng.sample(range(10**4), len(shown) + 1))
        return next(code for code in codes if code not in shown)

    def show(self, id: str) -> Mapping[str, Any]:
        """Return the state of a verification, or what stands in an error."""
        return self.request("GET", f"{id}/").content

    def ask_again(self, id: str) -> Answer:
        """Ask for another call."""
        self.asked += 1
        return self.request("POST", f"{id}/resend/", {}, id)

    def type(self, id: str, code: str) -> Answer:
        """Send a code, and note whether the site accepted it."""
        self.typed.setdefault(id, []).append(code)
        answer = self.send_code(id, code)
        if answer.status == 200:
            self.right.append((id, code))
            self.confirmed[id] = "verified"
        return answer

    def sign_up(self, id: str, token: str, over: threading.Event) -> None:
        """Create the account, until it exists."""
        for _ in range(ROUNDS):
            answer = self.send_account(id, token)
            if answer.status == 201:
                self.confirmed[id] = "redeemed"
            if answer.status not in (0, 503) or over.wait(self.rng.uniform(0.1, 1)):
                return

    def request(self, method: str, path: str, data: Any = None, about: str = "") -> Answer:
        """Send a request and note the answer.

        Args:
            about: what the request changes. After a lost answer or a 503, it may be changed
                already, and later answers can say so.
        """
        try:
            answer = self.exchange(method, path, data)
        except requests.RequestException:
            answer = Answer(0, {})
        if answer.status in (0, 503):
            self.lost |= {about} - {""}
        self.answers[answer.status, answer.error_code] += 1
        is_expected = answer.status == 0 or (answer.status, answer.error_code) in self.expected
        if not is_expected and about not in self.lost:
            self.surprises.append(f"{method} {path}: {answer.status} {answer.content}")
        return answer


class AppUser(Person):
    """Somebody with an app, which uses the API."""

    expected = {
        (200, None),
        (201, None),
        (400, "wrong_code"),
        (400, "invalid_destination"),
        (400, "expired"),
        (429, "duplicate_call"),
        (429, "cooldown"),
        (429, "too_many_calls"),
        (429, "too_many_attempts"),
        (503, "provider_unavailable"),
        (503, "unavailable"),
    }

    def start(self) -> str | None:
        self.asked += 1
        answer = self.request("POST", "", {"phone": self.number})
        return self.begun(answer.content["id"]) if answer.status == 201 else None

    def send_code(self, id: str, code: str) -> Answer:
        return self.request("POST", f"{id}/check/", {"code": code}, id)

    def send_account(self, id: str, token: str) -> Answer:
        return self.request("POST", "../signup/", {"phone_token": token, **self.account}, id)

    def exchange(self, method: str, path: str, data: Any) -> Answer:
        url = urljoin(f"{self.site}api/verifications/", path)
        response = requests.request(method, url, json=data, headers=self.headers, timeout=WATCHDOG)
        is_json = response.headers["Content-Type"] == "application/json"
        return Answer(response.status_code, response.json() if is_json else {})


class PageVisitor(Person):
    """Somebody with a browser, who uses the pages."""

    expected = {(200, None), (302, None), (503, None)}

    def start(self) -> str | None:
        self.session = requests.Session()
        if self.request("GET", "").status != 200:  # gets the cookie against forged requests
            return None
        self.asked += 1
        answer = self.request("POST", "", {"phone": self.number})
        return self.begun(answer.content["to"].split("/")[-2]) if answer.status == 302 else None

    def send_code(self, id: str, code: str) -> Answer:
        answer = self.request("POST", f"{id}/", {"code": code}, id)
        if answer.status == 503:
            return Answer(503, {"error_code": "unavailable"})
        if answer.content.get("to") == "/phone/done/":
            return Answer(200, {"token": "in the session"})
        if (
            answer.status == 302
            and self.request("GET", f"{id}/").content.get("status") == "pending"
        ):
            return Answer(400, {"error_code": "wrong_code"})
        return Answer(answer.status and 400, {})

    def send_account(self, id: str, token: str) -> Answer:
        answer = self.request("POST", "signup/", self.account, id)
        is_created = answer.content.get("to") == "/phone/done/"
        return answer._replace(status=201) if is_created else answer

    def exchange(self, method: str, path: str, data: Any) -> Answer:
        secret = {"csrfmiddlewaretoken": self.session.cookies.get("csrftoken")}
        response = self.session.request(
            method,
            f"{self.site}phone/{path}",
            data=None if data is None else data | secret,
            headers=self.headers | {"Accept": "application/json" if path else "text/html"},
            timeout=WATCHDOG,
            allow_redirects=False,
        )
        if response.headers["Content-Type"] == "application/json":
            return Answer(response.status_code, response.json())
        return Answer(response.status_code, {"to": response.headers.get("Location")})
