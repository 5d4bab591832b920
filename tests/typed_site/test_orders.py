"""A site's own tests, with the fixtures of the plugin; run by `test_package`, not by the suite."""

import pytest
from django.test import Client

from django_flashcall.backends import CallRequest
from django_flashcall.simulator import Answer, Simulator
from django_flashcall.testing import last_code

pytestmark = pytest.mark.django_db


def test_an_order(client: Client, flashcall_outbox: list[CallRequest]) -> None:
    body = {"phone": "+79161234567"}
    started = client.post("/api/verifications/", body, "application/json").json()
    body = {"code": last_code("+79161234567")}
    url = f"/api/verifications/{started['id']}/check/"
    assert client.post(url, body, "application/json").json()["token"]
    assert len(flashcall_outbox) == 1


def test_trouble(client: Client, flashcall_provider: Simulator) -> None:
    flashcall_provider.script(Answer.error(8))
    body = {"phone": "+79161234567"}
    answer = client.post("/api/verifications/", body, "application/json")
    assert answer.json()["error_code"] == "invalid_destination"
