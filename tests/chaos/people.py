"""People who verify their numbers over HTTP, and try again as people do."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests

from .provider import Provider

ROUNDS = 40
"""Verifications that a person starts before they give up."""

WATCHDOG = 60  # seconds for one request

EXPECTED = {
    (201, None),
    (200, None),
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
"""What a person can get at any time; the rest only after a lost answer."""


class Answer(NamedTuple):
    """An answer of the site; status 0 if the connection was lost before it came."""

    status: int
    content: Mapping[str, Any]

    @property
    def error_code(self) -> str | None:
        return self.content.get("error_code")


class Person:
    """Somebody with a number and an address of their own.

    Attributes:
        asked: requests for a call that left, whatever came back.
        typed: verification → the codes sent for it.
        confirmed: verification → the furthest state that the site confirmed.
        right: codes that the site accepted, with their verification.
        answers: status and `error_code` of all answers.
        surprises: answers that nothing explains.
    """

    def __init__(self, port: int, n: int, seed: str, provider: Provider, patience: float) -> None:
        self.url = f"http://127.0.0.1:{port}/api/"
        self.number = f"+7916{n % 1000:03d}{n // 1000:04d}"
        self.address = f"10.{n // 250}.{n % 250}.1"
        self.name = f"user{n}"
        self.provider = provider
        self.patience = patience
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

    def start(self) -> str | None:
        self.asked += 1
        answer = self.request("POST", "verifications/", {"phone": self.number})
        if answer.status != 201:
            return None
        id: str = answer.content["id"]
        self.confirmed[id] = "pending"
        return id

    def verify(self, id: str, over: threading.Event) -> str | None:
        """Listen, type what was heard, and return the token; None if it takes another start."""
        path = f"verifications/{id}/"
        if self.rng.random() < 0.2 and self.type(id, self.guess()).status == 429:
            return None
        for _ in range(ROUNDS):
            calls = self.provider.hear(self.number, self.heard, self.patience)
            if over.is_set():
                return None
            if len(calls) > self.heard:
                self.heard = len(calls)
                answer = self.type(id, calls[-1].code)
                while answer.status == 0 or answer.error_code == "unavailable":
                    if over.wait(self.rng.uniform(0.1, 1)):
                        return None
                    answer = self.type(id, calls[-1].code)
                if answer.status == 200:
                    token: str = answer.content["token"]
                    return token
                if answer.error_code != "wrong_code":
                    return None  # it has ended; or it succeeded, and the token was lost
            shown = self.request("GET", path)
            if shown.status == 200 and shown.content["status"] != "pending":
                return None
            self.asked += 1
            again = self.request("POST", f"{path}resend/", {}, id)
            if again.error_code == "too_many_calls":
                return None
            if again.status not in (0, 200):
                over.wait(self.rng.uniform(0.1, 1))
        return None

    def guess(self) -> str:
        """Return a code that no phone of this person has shown."""
        shown = {call.code for call in self.provider.hear(self.number, 0, 0)}
        codes = (f"{n:04d}" for n in self.rng.sample(range(10**4), len(shown) + 1))
        return next(code for code in codes if code not in shown)

    def type(self, id: str, code: str) -> Answer:
        self.typed.setdefault(id, []).append(code)
        answer = self.request("POST", f"verifications/{id}/check/", {"code": code}, id)
        if answer.status == 200:
            self.right.append((id, code))
            self.confirmed[id] = "verified"
        return answer

    def sign_up(self, id: str, token: str, over: threading.Event) -> None:
        account = {"username": self.name, "email": "", "password": "correct horse 9"}
        for _ in range(ROUNDS):
            answer = self.request("POST", "signup/", {"phone_token": token, **account}, id)
            if answer.status == 201:
                self.confirmed[id] = "redeemed"
            if answer.status not in (0, 503) or over.is_set():
                return
            over.wait(self.rng.uniform(0.1, 1))

    def request(self, method: str, path: str, data: Any = None, about: str = "") -> Answer:
        """Send a request and note the answer.

        Args:
            about: what the request changes. If an earlier answer was lost, it may be changed already.
        """
        try:
            response = requests.request(
                method,
                self.url + path,
                json=data,
                headers={"X-Forwarded-For": self.address},
                timeout=WATCHDOG,
            )
            is_json = response.headers["Content-Type"] == "application/json"
            answer = Answer(response.status_code, response.json() if is_json else {})
        except requests.RequestException:
            answer = Answer(0, {})
            self.lost |= {about} - {""}
        self.answers[answer.status, answer.error_code] += 1
        explained = answer.status == 0 or (answer.status, answer.error_code) in EXPECTED
        if not explained and about not in self.lost:
            self.surprises.append(f"{method} {path}: {answer.status} {answer.content}")
        return answer
