"""Who verified a number before, or owns it, has calls and attempts that strangers cannot use up."""

import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import connections
from django.urls import reverse
from django.utils import timezone

from django_flashcall import services
from django_flashcall.exceptions import (
    FlashcallError,
    TooManyAttempts,
    TooManyCalls,
    WrongCode,
)
from django_flashcall.models import Call, Phone, Verification

from .test_services import wrong

pytestmark = pytest.mark.django_db

NUMBER, OTHER = "+79161234567", "+79161234568"
HOME = "203.0.113.1"


@pytest.fixture
def clock():
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        yield clock


@pytest.fixture
def attacked(outbox, clock, configure):
    """Strangers have used up the calls of a number, and locked it with wrong codes."""

    def attack():
        for n in range(30):
            clock.shift(61)
            with contextlib.suppress(FlashcallError):
                verification = services.start(NUMBER, ip=f"198.51.100.{n}")
                for _ in range(3):
                    with contextlib.suppress(WrongCode):
                        services.check(verification, wrong(outbox[-1].code), ip=f"198.51.100.{n}")
        clock.shift(61)
        with pytest.raises(TooManyCalls):
            services.start(NUMBER, ip=HOME)
        assert Phone.objects.get(number=NUMBER).waits_until > timezone.now()

    return attack


def verify(outbox, **kwargs):
    verification = services.start(NUMBER, ip=HOME, **kwargs)
    return services.check(verification, outbox[-1].code, ip=HOME)


def test_a_device_that_verified_the_number(attacked, outbox):
    mark = services.issue_device(NUMBER)
    attacked()
    services.redeem(verify(outbox, device=mark))
    call = Call.objects.latest("pk")
    assert call.is_known
    assert call.verification.is_known


def test_the_owner_logged_in(attacked, outbox, clock):
    ann = get_user_model().objects.create_user("ann")
    services.redeem(verify(outbox), user=ann)
    attacked()
    assert verify(outbox, user=ann)
    clock.shift(61)
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, user=get_user_model().objects.create_user("bob"))


def test_it_is_worthless_for_another_number(attacked):
    attacked()
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, device=services.issue_device(OTHER))


def test_it_tells_nothing():
    first, second = services.issue_device(NUMBER), services.issue_device(NUMBER)
    assert first != second
    for mark in (first, second):
        assert NUMBER.strip("+") not in mark
        assert len(mark) < 80


@pytest.mark.parametrize("mark", ["", "x", "a:b:c", "." * 500, "é\0", None])
def test_what_is_no_mark(attacked, mark):
    attacked()
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, device=mark)


def test_it_expires(attacked, clock, configure):
    mark = services.issue_device(NUMBER)
    clock.shift(timedelta(days=180, seconds=1))
    attacked()
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, device=mark)
    configure(KNOWN_DEVICE_DAYS=200)
    services.start(NUMBER, ip=HOME, device=mark)


def test_switched_off(attacked, configure):
    mark = services.issue_device(NUMBER)
    configure(KNOWN_DEVICE_DAYS=0)
    assert services.issue_device(NUMBER) is None
    attacked()
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, device=mark)


def test_the_secret_key_is_rotated(attacked, settings):
    mark = services.issue_device(NUMBER)
    attacked()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key of the tests, which keeps nothing"
    assert services.start(NUMBER, ip=HOME, device=mark).is_known
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(FlashcallError):
        services.start(NUMBER, ip=HOME, device=mark)


def test_their_calls_are_few(outbox, clock):
    mark = services.issue_device(NUMBER)
    for _ in range(5):
        services.start(NUMBER, ip=HOME, device=mark)
        clock.shift(61)
    with pytest.raises(TooManyCalls) as caught:
        services.start(NUMBER, ip=HOME, device=mark)
    assert caught.value.retry_after > 23 * 3600
    services.start(NUMBER, ip=HOME)  # and not those of strangers


def test_their_attempts_are_few(outbox, clock):
    """Wrong codes lock them as they lock strangers, and only them."""
    mark = services.issue_device(NUMBER)
    for _ in range(4):
        verification = services.start(NUMBER, ip=HOME, device=mark)
        for _ in range(3):
            with contextlib.suppress(WrongCode, TooManyAttempts):
                services.check(verification, wrong(outbox[-1].code), ip=HOME)
        clock.shift(61)
    phone = Phone.objects.get()
    assert (phone.failures, phone.waits_until) == (0, None)
    assert phone.known_waits_until > timezone.now()
    with pytest.raises(TooManyCalls):
        services.start(NUMBER, ip=HOME, device=mark)
    services.start(NUMBER, ip=HOME)


def test_their_right_code_does_not_unlock_strangers(attacked, outbox):
    mark = services.issue_device(NUMBER)
    attacked()
    before = Phone.objects.get().failures
    verify(outbox, device=mark)
    phone = Phone.objects.get()
    assert phone.failures == before
    assert phone.waits_until > timezone.now()


def test_part_of_the_budget_is_kept_for_them(outbox, clock, configure):
    configure(CALLS_TOTAL="40/day", FRAUD_GUARD="off")
    for n in range(38):
        services.start(f"+7916{n:03d}4567", ip=f"198.51.100.{n}")
    with pytest.raises(TooManyCalls) as caught:
        services.start(NUMBER, ip=HOME)
    assert caught.value.scope == "total"
    mark = services.issue_device(NUMBER)
    assert services.start(NUMBER, ip=HOME, device=mark)
    assert services.start(OTHER, ip=HOME, device=services.issue_device(OTHER))
    third = "+79161234569"
    with pytest.raises(TooManyCalls):
        services.start(third, ip=HOME, device=services.issue_device(third))


def test_a_shared_address_with_many_wrong_codes(outbox, clock):
    for n in range(7):
        verification = services.start(f"+7916{n:03d}4567", ip=HOME)
        for _ in range(3):
            with contextlib.suppress(WrongCode, TooManyAttempts):
                services.check(verification, wrong(outbox[-1].code), ip=HOME)
    mark = services.issue_device(NUMBER)
    assert verify(outbox, device=mark)


@pytest.mark.django_db(transaction=True)
def test_exact_with_many_at_once(outbox, configure):
    configure(COOLDOWN=0, KNOWN_CALLS_PER_PHONE="3/day", MAX_CALLS_IN_FLIGHT=20)
    mark = services.issue_device(NUMBER)
    barrier = Barrier(20)

    def start(n):
        try:
            barrier.wait()
            services.start(NUMBER, ip=f"203.0.113.{n}", device=mark)
        except TooManyCalls:
            return "refused"
        finally:
            connections.close_all()
        return "called"

    with ThreadPoolExecutor(20) as pool:
        assert Counter(pool.map(start, range(20))) == {"called": 3, "refused": 17}


class TestApi:
    def start(self, api, number=NUMBER, **headers):
        return api.post("/api/verifications/", {"phone": number}, format="json", headers=headers)

    def test_the_mark_and_its_header(self, api, outbox, attacked):
        path = f"/api/verifications/{self.start(api).json()['id']}/check/"
        answer = api.post(path, {"code": outbox[-1].code}, format="json")
        mark = answer.json()["device"]
        assert NUMBER.strip("+") not in mark
        attacked()
        assert self.start(api).status_code == 429
        assert self.start(api, **{"Flashcall-Device": mark}).status_code == 201

    def test_too_long(self, api, outbox, attacked):
        attacked()
        header = {"Flashcall-Device": ("x" * 3000) + "." + services.issue_device(NUMBER)}
        assert self.start(api, **header).status_code == 429


class TestPages:
    def verify(self, client, outbox, number=NUMBER):
        client.post(reverse("django_flashcall:start"), {"phone": number})
        verification = Verification.objects.get(phone__number=number)
        path = reverse("django_flashcall:check", args=[verification.pk])
        return client.post(path, {"code": outbox[-1].code})

    def test_the_cookie(self, client, outbox, attacked):
        cookie = self.verify(client, outbox).cookies["flashcall_device"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie["max-age"] == 180 * 24 * 3600
        assert not cookie["secure"]
        assert NUMBER.strip("+") not in cookie.value
        attacked()
        placed = Call.objects.count()
        client.post(reverse("django_flashcall:start"), {"phone": NUMBER})
        assert Call.objects.count() == placed + 1

    def test_it_is_secure_where_the_site_is(self, client, outbox, settings):
        settings.SESSION_COOKIE_SECURE = True
        client.cookies.clear()
        client.post(reverse("django_flashcall:start"), {"phone": NUMBER}, secure=True)
        path = reverse("django_flashcall:check", args=[Verification.objects.get().pk])
        response = client.post(path, {"code": outbox[-1].code}, secure=True)
        assert response.cookies["flashcall_device"]["secure"]

    def test_several_numbers_of_one_browser(self, client, outbox, clock):
        numbers = [f"+791612345{n}7" for n in range(4)]
        for number in numbers:
            value = self.verify(client, outbox, number).cookies["flashcall_device"].value
        marks = value.split(".")
        assert len(marks) == 3
        clock.shift(61)
        known = [services.start(number, ip=HOME, device=value).is_known for number in numbers]
        assert known == [False, True, True, True]

    def test_what_is_no_mark_is_not_kept(self, client, outbox):
        client.cookies["flashcall_device"] = 'a:b:c.x"y\r\nSet-Cookie: z=1'
        marks = self.verify(client, outbox).cookies["flashcall_device"].value.split(".")
        assert marks[1:] == ["a:b:c"]

    def test_no_cookie_where_it_is_switched_off(self, client, outbox, configure):
        configure(KNOWN_DEVICE_DAYS=0)
        assert "flashcall_device" not in self.verify(client, outbox).cookies
