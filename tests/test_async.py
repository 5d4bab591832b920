"""Async code: the services in an event loop, and the site under a real ASGI server."""

import asyncio
import contextlib
import inspect
import json
import re
import socket
import threading
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError, connection, connections, transaction
from django.test import TestCase
from django.utils import translation

from django_flashcall import services
from django_flashcall.backends import BaseBackend, Receipt
from django_flashcall.exceptions import ProviderUnavailable, WrongCode
from django_flashcall.models import Attempt, Call, Phone, Refusal, Verification
from django_flashcall.rest_framework import serializers
from django_flashcall.signals import call_placed
from django_flashcall.testing import capture_calls
from django_flashcall.verification import in_flight, threads

from . import raw_server
from .processes import wait_until
from .test_services import wrong
from .test_web_server import Visitor
from .web_server import GUNICORN, UVICORN, patient, serve_from_the_tests_database

NUMBER = "+79161234567"
OTHER = "+79161234568"
WATCHDOG = 60
"""Seconds after which a test gives up."""

NAMES = sorted(name for name in services.__all__ if name[1:] in services.__all__)
in_transactions = pytest.mark.django_db(transaction=True)


# The services in an event loop of the test.


def test_those_that_async_views_need_are_there():
    named = {"cancel", "check", "find", "phone_of", "redeem", "resend", "start"}
    assert {name[1:] for name in NAMES} == named | {
        "find_and_check",
        *("confirm_call", "place_call"),
        *("log_in", "remove_phone"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_is_called_as_its_service(name):
    function = getattr(services, name)
    assert inspect.iscoroutinefunction(function)
    assert inspect.signature(function) == inspect.signature(getattr(services, name[1:]))
    assert function.__name__ == name
    assert f"`{name[1:]}`" in function.__doc__


class TransactionOfATestCase(TestCase):
    """All of it runs in the transaction of the test, as Django's own async functions do."""

    async def test_a_verification(self):
        ann = await get_user_model().objects.acreate(username="ann")
        with capture_calls() as outbox:
            verification = await services.astart(NUMBER)
        assert await Call.objects.acount() == 1
        with pytest.raises(WrongCode):
            await services.acheck(verification, wrong(outbox[-1].code))
        token = await services.acheck(await services.afind(verification.pk), outbox[-1].code)
        phone = await services.aredeem(token, user=ann)
        assert (phone.number, phone.owner) == (NUMBER, ann)
        assert await services.aphone_of(ann) == phone
        assert await services.aphone_of(AnonymousUser()) is None
        with capture_calls() as outbox:
            placed = await services.aplace_call(OTHER, "123456", purpose="second-factor")
        assert placed.code == outbox[-1].code == "123456"
        phone = await services.aconfirm_call(OTHER, purpose="second-factor", user=ann)
        assert (phone.number, phone.owner) == (OTHER, ann)
        await Phone.objects.aupdate(last_called_at=None)
        with capture_calls() as outbox:
            verification = await services.astart(OTHER, purpose="login")
        token = await services.acheck(verification, outbox[-1].code)
        assert await services.alog_in(token) == (ann, phone)
        await services.aremove_phone(ann)
        assert await services.aphone_of(ann) is None

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        assert not Call.objects.exists()


class StuckBackend(BaseBackend):
    """A provider that answers when the test lets it, and notes what its threads have."""

    def place_call(self, request):
        self.seen.append((threading.current_thread(), translation.get_language()))
        self.arrived.release()
        assert self.released.wait(WATCHDOG)
        return Receipt(provider_id="1")

    @classmethod
    async def wait(cls, times=1):
        for _ in range(times):
            assert await asyncio.to_thread(cls.arrived.acquire, timeout=WATCHDOG)


@pytest.fixture
def stuck(configure):
    StuckBackend.arrived, StuckBackend.released = threading.Semaphore(0), threading.Event()
    StuckBackend.seen = []
    backends = {"default": {"BACKEND": f"{__name__}.StuckBackend"}}
    configure(BACKENDS=backends, MAX_CALLS_IN_FLIGHT=1, CALLS_PER_PREFIX=None)
    yield StuckBackend
    StuckBackend.released.set()


@in_transactions
def test_queries_of_the_same_request_go_on_while_a_call_waits(stuck):
    async def view():
        start = asyncio.create_task(services.astart(NUMBER))
        await stuck.wait()
        assert await Call.objects.filter(status="queued").aexists()
        with pytest.raises(ProviderUnavailable) as refused:
            await services.astart(OTHER)
        assert not start.done()
        assert refused.value.retry_after == in_flight.RETRY_AFTER
        stuck.released.set()
        return await start

    verification = async_to_sync(view)()
    assert verification.newest_call.status == "sent"
    assert Refusal.objects.get(scope="in_flight").count == 1
    assert in_flight._taken == 0


@in_transactions
def test_a_cancelled_start_is_placed_and_stored(stuck):
    async def view():
        start = asyncio.create_task(services.astart(NUMBER))
        await stuck.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert in_flight._taken == 1  # the provider still has the call

    async_to_sync(view)()
    assert Call.objects.get().status == "queued"
    stuck.released.set()
    ((thread, _),) = stuck.seen
    wait_until(lambda: in_flight._taken == 0, "the place is not free")
    assert Call.objects.get().status == "sent"
    assert thread.is_alive()  # and waits for the next call


@in_transactions
def test_a_cancelled_start_that_has_no_thread_yet_spends_nothing(stuck, configure, monkeypatch):
    configure(MAX_CALLS_IN_FLIGHT=2)
    monkeypatch.setattr(threads, "SPARE_THREADS", -1)  # so that one has to wait for the other

    pool = threads._pool(1)

    async def view():
        start = asyncio.create_task(services.astart(NUMBER))
        await stuck.wait()
        late = asyncio.create_task(services.astart(OTHER))
        async with asyncio.timeout(WATCHDOG):
            while not pool._work_queue.qsize():
                await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        stuck.released.set()
        await start
        await asyncio.wrap_future(pool.submit(lambda: None))  # comes after the one cancelled

    async_to_sync(view)()
    assert Call.objects.get().phone.number == NUMBER
    assert in_flight._taken == 0


@in_transactions
def test_the_connections_of_its_threads_are_closed(stuck, configure):
    configure(MAX_CALLS_IN_FLIGHT=3)
    stuck.released.set()
    used = []

    def note(**kwargs):
        used.append(connections["default"])

    async def view():
        await asyncio.gather(*(services.astart(f"{NUMBER[:-1]}{number}") for number in range(3)))

    call_placed.connect(note)
    try:
        async_to_sync(view)()
    finally:
        call_placed.disconnect(note)
    assert len(used) == 3
    assert connections["default"] not in used
    assert all(own.connection is None for own in used)


@in_transactions
def test_the_language_goes_with_the_call(stuck):
    stuck.released.set()

    async def view():
        with translation.override("ru"):
            await services.astart(NUMBER)
            return await refusal(services.astart(NUMBER))

    assert re.search("[а-я]", async_to_sync(view)())
    assert stuck.seen[0][1] == "ru"


async def refusal(start):
    try:
        await start
    except Exception as error:
        return str(error)


@in_transactions
def test_the_results_need_no_query(outbox, configure):
    configure(COOLDOWN=0)

    def shown(verification):  # a query in the event loop would raise an error
        return serializers.StartedVerificationSerializer(verification).data

    async def view():
        verification = await services.astart(NUMBER)
        assert shown(verification)["call"]["status"] == "sent"
        await services.aresend(verification)
        assert shown(verification)["calls_left"] == 1
        found = await services.afind(verification.pk)
        with pytest.raises(WrongCode):
            await services.acheck(found, wrong(outbox[-1].code))
        assert shown(found)["attempts_left"] == 2
        await services.acancel(found)
        assert shown(found)["status"] == "cancelled"

    async_to_sync(view)()


@in_transactions
def test_a_transaction_of_the_caller_is_not_left(outbox):
    with transaction.atomic(), pytest.raises(RuntimeError):
        async_to_sync(services.astart)(NUMBER)
    assert not Call.objects.exists()
    verification = services.start(NUMBER)
    token = services.check(verification, outbox[-1].code)
    with transaction.atomic():
        async_to_sync(services.aredeem)(token)
        transaction.set_rollback(True)
    assert async_to_sync(services.aredeem)(token).number == NUMBER


@in_transactions
def test_no_traceback_shows_the_code(outbox, configure, monkeypatch):
    configure(CODE_LENGTH=6)
    verification = services.start(NUMBER)
    code = str(outbox[-1].code)

    def fail(*args, **kwargs):
        raise OperationalError

    monkeypatch.setattr(Phone, "verified_write", fail)

    async def view(given):
        await services.acheck(verification, given())

    with pytest.raises(OperationalError) as caught:
        async_to_sync(view)(lambda: code)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    seen = [frame for frame in frames.stack if frame.filename != __file__]
    assert {"threads.py", "sync.py"} <= {frame.filename.rpartition("/")[2] for frame in seen}
    assert not [line for frame in seen for line in frame.locals.values() if code in line]


# The site under a real ASGI server.


@pytest.fixture
def serve(tmp_path, settings):
    """Serve a site with async views; keys of ``FLASHCALL`` and other settings differ."""

    def serve(server=UVICORN, middleware=(), **keys):
        flashcall = {**settings.FLASHCALL, "TRUSTED_PROXIES": 1, **keys}
        middleware = [*middleware, *settings.MIDDLEWARE]
        site = {"ROOT_URLCONF": "tests.async_site", "MIDDLEWARE": middleware}
        return serve_from_the_tests_database(server, tmp_path, flashcall, **site)

    return serve


@pytest.fixture
def silent():
    """A provider that answers when the test lets it (`silent.respond.set()`)."""
    respond = threading.Event()

    def behave(server, connection):
        server.read(connection)
        respond.wait(WATCHDOG)
        connection.sendall(raw_server.answer())

    with raw_server.Server(behave) as server, contextlib.ExitStack() as stack:
        stack.callback(respond.set)
        server.respond = respond
        yield server


def call(visitor, **headers):
    return visitor.request("POST", "async/call/", data={"phone": visitor.number}, headers=headers)


def call_by_the_api(visitor):
    return visitor.request("POST", "api/verifications/", json={"phone": visitor.number})


MIDDLEWARE = pytest.mark.parametrize(
    "middleware",
    [[], ["tests.middleware.synchronous"]],
    ids=["all middleware is async", "one is not"],
)


@in_transactions
@MIDDLEWARE
def test_the_event_loop_goes_on_while_fifty_calls_wait(serve, silent, middleware):
    people, turns = 50, 100
    with ExitStack() as stack:
        limits = {"MAX_CALLS_IN_FLIGHT": people, "CALLS_PER_PREFIX": None}
        port = stack.enter_context(serve(middleware=middleware, **limits, **patient(silent.url)))
        pool = stack.enter_context(ThreadPoolExecutor(people))
        stack.callback(silent.respond.set)
        visitors = [Visitor(port, number) for number in range(people)]
        calls = [pool.submit(call, visitor) for visitor in visitors]
        wait_until(lambda: len(silent.requests) == people, "not all calls were placed")

        other = Visitor(port, people)
        beats = []

        def goes_on():
            beats.extend(other.request("GET", "async/beats/").json()["lags"])
            return len(beats) > turns

        wait_until(goes_on, "the event loop stands still")
        assert other.request("GET", "phone/").ok  # a synchronous view
        assert not any(one.done() for one in calls)

        silent.respond.set()
        assert {one.result(WATCHDOG).status_code for one in calls} == {201}
    assert Call.objects.filter(status="sent").count() == people


@in_transactions
def test_one_more_call_is_refused_at_once(serve, silent):
    """Async views and the API share the places of their process."""
    with ExitStack() as stack:
        port = stack.enter_context(serve(MAX_CALLS_IN_FLIGHT=2, **patient(silent.url)))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stack.callback(silent.respond.set)
        waiting = [
            pool.submit(call, Visitor(port, 1)),
            pool.submit(call_by_the_api, Visitor(port, 2)),
        ]
        wait_until(lambda: len(silent.requests) == 2, "not both calls were placed")
        late = Visitor(port, 3)
        for start in (call, call_by_the_api):
            refused = start(late)
            assert (refused.status_code, refused.json()["error_code"]) == (
                503,
                "provider_unavailable",
            )
        assert not any(one.done() for one in waiting)
        silent.respond.set()
        assert [one.result(WATCHDOG).status_code for one in waiting] == [201, 201]
        assert call(late).status_code == 201
    assert not Phone.objects.filter(number=Visitor(port, 4).number).exists()
    assert Refusal.objects.get(scope="in_flight").count == 2


@in_transactions
@MIDDLEWARE
@pytest.mark.parametrize("path", ["async/call/", "api/verifications/"])
def test_a_visitor_who_disconnects(serve, silent, path, middleware):
    """The call is placed and stored, the event loop goes on meanwhile, and nothing is left."""
    with ExitStack() as stack:
        keys = {"MAX_CALLS_IN_FLIGHT": 1, **patient(silent.url)}
        port = stack.enter_context(serve(middleware=middleware, **keys))
        stack.callback(silent.respond.set)
        other = Visitor(port, 2)
        is_json = path.startswith("api")
        body = json.dumps({"phone": NUMBER}) if is_json else f"phone=%2B{NUMBER[1:]}"
        kind = "application/json" if is_json else "application/x-www-form-urlencoded"
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            head = f"POST /{path} HTTP/1.1\r\nHost: site\r\nContent-Type: {kind}\r\n"
            visitor.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            wait_until(lambda: silent.requests, "the call was not placed")
        for _ in range(10):
            assert other.request("GET", "async/beats/").ok
        assert call(other).status_code == 503  # the place is taken until the provider answers
        assert Call.objects.get().status == "queued"
        silent.respond.set()
        wait_until(lambda: Call.objects.get().status == "sent", "the call was not stored")
        wait_until(lambda: call(other).status_code == 201, "the place is not free")
        if connection.vendor == "postgresql":
            wait_until(lambda: not other_connections(), "a connection is open")


def other_connections():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


@in_transactions
def test_fifty_checks_and_fifty_redemptions_at_once(serve, provider):
    people = 50
    with serve() as port, ThreadPoolExecutor(people) as pool:
        ann = Visitor(port, 1)
        id = ann.post("verifications/", phone=ann.number)["id"]
        code = provider.last_call(ann.number).code

        def at_once(path, **data):
            barrier = threading.Barrier(people)

            def send(_):
                barrier.wait(WATCHDOG)
                answer = requests.post(f"{ann.url}{path}", data=data, timeout=WATCHDOG)
                return answer.status_code, answer.json().get("error_code")

            return Counter(pool.map(send, range(people)))

        answers = at_once(f"async/{id}/check/", code=wrong(code))
        assert answers == {(400, "wrong_code"): 3, (429, "too_many_attempts"): people - 3}
        assert Attempt.objects.count() == Phone.objects.get().failures == 3

        ben = Visitor(port, 2)
        id = ben.post("verifications/", phone=ben.number)["id"]
        code = provider.last_call(ben.number).code
        token = ben.request("POST", f"async/{id}/check/", data={"code": code}).json()["token"]
        answers = at_once("async/redeem/", token=token)
        assert answers == {(200, None): 1, (400, "invalid_token"): people - 1}


@in_transactions
def test_the_views_of_the_how_to(serve, provider):
    with serve() as port:
        ann = Visitor(port, 1)
        started = call(ann)
        assert started.status_code == 201
        again = call(ann, **{"Accept-Language": "ru"})
        assert (again.status_code, again.json()["error_code"]) == (429, "cooldown")
        assert re.search("[а-я]", again.json()["message"])
        path = f"async/{started.json()['id']}/verify/"
        code = provider.last_call(ann.number).code
        refused = ann.request("POST", path, data={"code": wrong(code)})
        assert (refused.status_code, refused.json()["error_code"]) == (400, "wrong_code")
        assert ann.request("POST", path, data={"code": code}).json() == {"phone": ann.number}


@in_transactions
@pytest.mark.parametrize("server", [GUNICORN, UVICORN], ids=["WSGI", "ASGI"])
def test_the_api_the_pages_and_the_webhook(serve, provider, server):
    """As people and providers use them; the same under both kinds of servers."""
    secret = "a" * 43
    with serve(server, DELIVERY_REPORT_SECRETS=[secret]) as port:
        ann, ben = Visitor(port, 1), Visitor(port, 2)
        ann.sign_up_in_an_app(provider)
        ben.sign_up_on_the_pages(provider)
        assert ben.request("GET", "async/order/").text == ben.number
        refused = ann.request("GET", "async/order/", allow_redirects=False)  # it has no session
        assert refused.headers["Location"] == "/accounts/login/?next=/async/order/"
        numbers = Phone.objects.filter(number=ben.number)
        owner = numbers.get().owner
        numbers.update(owner=None)
        refused = ben.request("GET", "async/order/", allow_redirects=False)
        assert refused.headers["Location"] == "/phone/?next=/async/order/"
        numbers.update(owner=owner)
        call = Call.objects.get(phone__number=ann.number)
        report = {"mtNum": call.provider_id, "status": 2, "type": "FLASHINGCALL"}
        path = f"phone/delivery-reports/default/{secret}/"
        assert ann.request("POST", path, json=report).status_code == 200
        assert ann.request("POST", path, data="nonsense").status_code == 400
        assert ann.request("POST", path.replace("a", "b"), json=report).status_code == 404
    call.refresh_from_db()
    assert call.status == "delivered"
    accounts = get_user_model().objects.values_list("username", "verified_phone__number")
    assert set(accounts) == {(ann.name, ann.number), (ben.name, ben.number)}
    assert Verification.objects.filter(state="redeemed").count() == 2
    assert not {status for status, *_ in ann.answers + ben.answers} - {200, 201, 302, 400, 404}


@in_transactions
def test_a_start_for_workers_does_not_wait(serve, silent):
    with serve(DISPATCH="task", MAX_CALLS_IN_FLIGHT=1, **patient(silent.url)) as port:
        assert [call(Visitor(port, number)).status_code for number in range(3)] == [201] * 3
    assert not silent.requests
    assert set(Call.objects.values_list("status", flat=True)) == {"queued"}
