"""The bulkhead: a provider that never answers holds a few threads of a process, and no more."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from rest_framework.test import APIClient

from django_flashcall.backends import BaseBackend, Receipt
from django_flashcall.exceptions import ProviderUnavailable
from django_flashcall.models import Call, Phone, Refusal, Verification
from django_flashcall.verification import in_flight

pytestmark = pytest.mark.django_db(transaction=True)

WAITING = ["+79161230001", "+79161230002"]
LATE = "+79161230003"
WATCHDOG = 60  # seconds after which a test gives up


def start(number):
    try:
        return APIClient().post("/api/verifications/", {"phone": number}, format="json")
    finally:
        connections.close_all()


class StuckBackend(BaseBackend):
    """A provider that answers when the test lets it."""

    def place_call(self, call):
        self.arrived.release()
        assert self.released.wait(WATCHDOG)
        return Receipt(provider_id="1")


@pytest.fixture
def waiting(configure):
    """As many requests that wait for a provider as may; they go on when the test is over."""
    StuckBackend.arrived, StuckBackend.released = threading.Semaphore(0), threading.Event()
    configure(
        BACKENDS={"default": {"BACKEND": f"{__name__}.StuckBackend"}},
        MAX_CALLS_IN_FLIGHT=len(WAITING),
    )
    with ThreadPoolExecutor(len(WAITING)) as pool:
        requests = [pool.submit(start, number) for number in WAITING]
        try:
            for _ in WAITING:
                assert StuckBackend.arrived.acquire(timeout=WATCHDOG)
            yield requests
        finally:
            StuckBackend.released.set()


def test_one_more_is_refused_and_nothing_is_spent(waiting):
    refused = start(LATE)
    assert not any(request.done() for request in waiting)  # it did not wait for them
    assert (refused.status_code, refused.json()["error_code"]) == (503, "provider_unavailable")
    assert refused["Retry-After"] == str(refused.json()["retry_after"]) == "15"
    assert not Phone.objects.filter(number=LATE).exists()
    assert Verification.objects.count() == Call.objects.count() == len(WAITING)
    assert Refusal.objects.get(scope="in_flight").count == 1


def test_all_other_requests_are_answered(waiting):
    verification = Verification.objects.first()
    path = f"/api/verifications/{verification.pk}/"
    assert APIClient().get(path).json()["call"]["status"] == "queued"
    wrong = APIClient().post(f"{path}check/", {"code": "12"}, format="json")
    assert wrong.json()["error_code"] == "invalid"
    assert APIClient().delete(path).status_code == 204
    assert not any(request.done() for request in waiting)


def test_a_resend_is_refused_too(waiting, configure):
    configure(COOLDOWN=0)
    verification = Verification.objects.first()
    left = verification.calls_left
    refused = APIClient().post(f"/api/verifications/{verification.pk}/resend/", {}, format="json")
    assert (refused.status_code, refused.json()["error_code"]) == (503, "provider_unavailable")
    verification.refresh_from_db()
    assert (verification.calls_left, verification.calls.count()) == (left, 1)


def test_the_places_are_free_again_afterwards(waiting):
    StuckBackend.released.set()
    assert [request.result().status_code for request in waiting] == [201, 201]
    assert start(LATE).status_code == 201
    assert in_flight._taken == 0


def test_a_test_number_takes_no_place(waiting, configure):
    configure(TEST_NUMBERS={LATE: "1234"})
    assert start(LATE).status_code == 201


def test_a_place_is_freed_whatever_happens(configure):
    configure(MAX_CALLS_IN_FLIGHT=1)
    with in_flight.Slot() as slot:
        slot.take()
        with pytest.raises(ProviderUnavailable), in_flight.Slot() as other:
            other.take()
        assert in_flight._taken == 1
    assert in_flight._taken == 0


def test_a_forked_process_starts_with_free_places():
    with in_flight.Slot() as slot:
        slot.take()
        child = os.fork()
        if child == 0:
            os._exit(in_flight._taken)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert in_flight._taken == 1
