"""Calls that workers place: real queues, real workers, and workers that are killed."""

import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module

import pytest
import time_machine
from django.core.management import call_command
from django.db import connections
from django.db.models import Sum
from django.utils import timezone
from rest_framework.test import APIClient

import django_flashcall
from django_flashcall import checks, services, signals, tasks
from django_flashcall.exceptions import (
    FlashcallError,
    Misconfigured,
    ProviderUnavailable,
    TemporaryFailure,
)
from django_flashcall.models import (
    Call,
    CallCount,
    CircuitBreaker,
    Phone,
    QueuedCall,
    Rule,
    Verification,
)
from django_flashcall.simulator import Account, Answer, Manner
from django_flashcall.verification import codes, dispatch

from .processes import wait_until
from .test_breaker import ANSWERS, ASKED, ScriptedBackend
from .workers import NOBODY_LISTENS, redis, worker, write_celery_site

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
# Redis is needed where everything must be tested, and optional elsewhere.
HAS_REDIS = shutil.which("redis-server") or os.environ.get("CI") == "true"
KINDS = ["default", "redis", "celery"] if HAS_REDIS else ["default"]


@pytest.fixture(autouse=True)
def dispatched(request, configure):
    for name in {"outbox", "provider"} & set(request.fixturenames):
        request.getfixturevalue(name)  # these place calls at once
    configure(DISPATCH="task")


@pytest.fixture
def scripted(configure):
    path = f"{ScriptedBackend.__module__}.ScriptedBackend"
    configure(
        BACKENDS={"default": {"BACKEND": path}, "other": {"BACKEND": path}},
        CHANNELS={"flash_call": ["default", "other"]},
    )
    ANSWERS.clear()
    ASKED.clear()


@pytest.fixture
def queue(request, settings, tmp_path, unused_tcp_port, configure):
    """The task backend that a test asks for, and the folder of its worker."""
    kind = request.param
    settings.CELERY_BROKER_URL = NOBODY_LISTENS
    configure(TASK_BACKEND=kind)
    if kind == "default":
        yield kind, tmp_path
        return
    with redis(tmp_path, unused_tcp_port) as url:
        settings.CELERY_BROKER_URL = url
        settings.RQ_QUEUES = {"default": {"URL": url}}
        if kind == "celery":
            request.getfixturevalue("celery_site")
        yield kind, tmp_path


@pytest.fixture
def celery_site(monkeypatch, tmp_path):
    from django_tasks_db.compat import task_backends

    write_celery_site(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    from mysite.celery_tasks import CeleryTasks

    task_backends["celery"] = CeleryTasks("celery", {})
    yield
    del task_backends["celery"]
    for name in [name for name in sys.modules if name.split(".")[0] == "mysite"]:
        del sys.modules[name]


def start(api, number=NUMBER):
    response = api.post("/api/verifications/", {"phone": number}, format="json")
    assert response.status_code == 201, response.json()
    return response.json()


def show(api, started):
    return api.get(f"/api/verifications/{started['id']}/").json()


def check(api, started, code):
    path = f"/api/verifications/{started['id']}/check/"
    return api.post(path, {"code": code}, format="json")


def work():
    """What a worker does with each queued call."""
    for call in list(QueuedCall.objects.filter(taken_at=None).values_list("call", flat=True)):
        tasks.place_call.call(call)


def later(seconds):
    """Make everything that is queued older."""
    for queued in QueuedCall.objects.all():
        queued.created_at -= timedelta(seconds=seconds)
        if queued.taken_at:
            queued.taken_at -= timedelta(seconds=seconds)
        queued.save()


class TestRealWorkers:
    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.mark.parametrize("queue", KINDS, indirect=True)
    def test_a_worker_places_the_call(self, queue, api, provider):
        started = start(api)
        assert started["call"] == {"status": "queued", "error_code": None}
        assert not provider.requests
        with worker(*queue):
            wait_until(lambda: show(api, started)["call"]["status"] == "sent", queue)
            wait_until(lambda: not QueuedCall.objects.exists(), "The queue is not empty")
        placed = provider.last_call(NUMBER)
        assert placed.id == Call.objects.get().reference.hex
        assert check(api, started, placed.code).status_code == 200

    @pytest.mark.parametrize("queue", KINDS[1:], indirect=True)
    def test_the_queue_knows_neither_number_nor_code(self, queue, api, provider, settings):
        import redis as client

        start(api)
        with client.Redis.from_url(settings.CELERY_BROKER_URL) as connected:
            content = b""
            for key in connected.scan_iter():
                kind = connected.type(key)
                if kind == b"list":
                    content += b"".join(connected.lrange(key, 0, -1))
                elif kind == b"hash":
                    content += b"".join(connected.hgetall(key).values())
        assert content
        assert NUMBER[1:].encode() not in content

    def test_many_workers_with_the_same_task(self, api, outbox):
        start(api)
        call = Call.objects.get().pk

        def place(_):
            try:
                tasks.place_call.call(call)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(place, range(20)))
        assert len(outbox) == 1
        assert Call.objects.get().status == "sent"

    def test_the_arguments_of_a_task(self, api, provider):
        from django_tasks_db.models import DBTaskResult

        start(api)
        call = Call.objects.get()
        assert DBTaskResult.objects.get().args_kwargs == {"args": [call.pk], "kwargs": {}}
        call_command("db_worker", batch=True, startup_delay=False, verbosity=0, reload=False)
        task = DBTaskResult.objects.get()
        assert (task.status, task.return_value, task.traceback) == ("SUCCESSFUL", None, "")

    @pytest.mark.parametrize("queue", ["default"], indirect=True)
    @pytest.mark.parametrize("duplicate_control", [True, False])
    def test_a_killed_worker(self, duplicate_control, queue, api, provider, settings, configure):
        """The phone rings once, and the call is not lost."""
        account = provider.accounts["site"]
        provider.accounts["site"] = Account(
            account.login, account.password, duplicate_control=duplicate_control
        )
        options = settings.FLASHCALL["BACKENDS"]["default"]["OPTIONS"]
        configure(
            BACKENDS={
                "default": {
                    **settings.FLASHCALL["BACKENDS"]["default"],
                    "OPTIONS": {
                        **options,
                        "duplicate_control": duplicate_control,
                        "timeout": 14,
                    },
                }
            },
            CHANNELS={"flash_call": ["default"]},
        )
        provider.script(Answer(manner=Manner.HANG))
        started = start(api)
        with worker(*queue) as process:
            wait_until(lambda: provider.requests, "The worker asked nobody")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert show(api, started)["call"]["status"] == "queued"
        provider.accounts["site"] = Account(
            account.login, account.password, duplicate_control=duplicate_control
        )
        later(dispatch.TAKEN_FOR + 1)
        other = start(APIClient(), "+79161234568")
        with worker(*queue):
            wait_until(lambda: show(api, other)["call"]["status"] == "sent", "The other call")
            status = "sent" if duplicate_control else "unknown"
            wait_until(lambda: show(api, started)["call"]["status"] == status, "The call")
        calls = [placed for placed in provider.calls if placed.number == NUMBER]
        assert len(calls) == 1
        assert len(provider.requests) == 2 + duplicate_control
        assert check(api, started, calls[0].code).status_code == 200
        provider.accounts["site"] = account

    def test_a_queue_that_is_down(self, api, provider, settings, unused_tcp_port, configure):
        configure(TASK_BACKEND="redis")
        settings.RQ_QUEUES = {"default": {"URL": f"redis://127.0.0.1:{unused_tcp_port}/0"}}
        response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        assert response.status_code == 503
        assert response.json()["error_code"] == "provider_unavailable"
        assert Call.objects.get().status == "rejected"
        assert Phone.objects.get().last_called_at is None
        assert CallCount.objects.aggregate(Sum("calls"))["calls__sum"] == 0
        assert not QueuedCall.objects.exists()


class TestOutcomes:
    """What the worker learns appears where the visitor looks, as if the request had learnt it."""

    def test_a_wrong_number(self, api, provider, client):
        started = start(api, "+79161239908")
        work()
        shown = show(api, started)
        assert shown["status"] == "failed"
        assert shown["call"] == {"status": "rejected", "error_code": "invalid_destination"}
        response = check(api, started, "1234")
        assert response.status_code == 400
        assert response.json()["error_code"] == "invalid_destination"
        assert Phone.objects.get().last_called_at is None

    def test_the_page_says_the_same_words(self, client, provider):
        inline = client.post("/phone/", {"phone": "+79161239904"})
        page = client.get(inline.url)
        assert "We can" not in page.text
        work()
        page = client.get(inline.url)
        assert (
            page.context["over"]
            == "We can't call you right now. Please try again in a few minutes."
        )
        assert "Start again" in page.text

    def test_the_page_of_a_rejected_resend(self, client, provider, configure):
        configure(COOLDOWN=0)
        url = client.post("/phone/", {"phone": NUMBER}).url
        work()
        provider.script(Answer.error(8))
        client.post(f"{url}resend/")
        assert client.get(url).context["form"].is_valid
        work()
        page = client.get(url)
        assert page.context["over"] is None
        assert "We couldn&#x27;t call this number. Check it and try again." in page.text
        code = provider.last_call(NUMBER).code
        assert client.post(url, {"code": code}).url == "/phone/done/"

    def test_a_test_number_needs_no_worker(self, api, configure):
        configure(TEST_NUMBERS={NUMBER: "1234"})
        started = start(api)
        assert started["call"]["status"] == "sent"
        assert not QueuedCall.objects.exists()

    def test_limits_hold(self, api, outbox, configure):
        configure(DISPATCH="task")
        start(api)
        response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        assert response.json()["error_code"] == "cooldown"
        work()
        assert len(outbox) == 1

    def test_no_slot_is_taken(self, api, outbox, configure):
        configure(DISPATCH="task", MAX_CALLS_IN_FLIGHT=1)
        for n in range(3):
            start(api, f"+7916123456{n}")
        assert QueuedCall.objects.count() == 3

    @pytest.mark.parametrize("cooldown", [60, 5])
    def test_workers_that_were_away_for_longer_than_the_cooldown(
        self, api, outbox, configure, cooldown
    ):
        """The phone rings once, with the code of the newest page."""
        configure(DISPATCH="task", COOLDOWN=cooldown)
        first = start(api)
        earlier = timezone.now() - timedelta(seconds=61)
        Call.objects.update(created_at=earlier)
        QueuedCall.objects.update(created_at=earlier)
        Phone.objects.update(last_called_at=earlier)
        second = start(api)
        work()
        assert show(api, second)["call"]["status"] == "sent"
        assert check(api, second, outbox[-1].code).status_code == 200
        shown = show(api, first)
        if cooldown == 60:
            assert len(outbox) == 1
            assert shown["call"]["status"] == "rejected"
        else:
            assert len(outbox) == 2

    def test_fail_over(self, api, scripted):
        ANSWERS[:] = [TemporaryFailure("Down.")]
        started = start(api)
        work()
        assert show(api, started)["call"]["status"] == "sent"
        assert [call.backend for call in Call.objects.order_by("pk")] == ["default", "other"]
        assert not QueuedCall.objects.exists()
        assert len({call.code for call in ASKED}) <= 2
        assert check(api, started, ASKED[-1].code).status_code == 200

    def test_a_backend_that_is_paused_meanwhile(self, api, scripted, configure):
        configure(BREAKER_WAIT=60)
        started = start(api)
        at = timezone.now()
        CircuitBreaker.objects.create(
            backend="default", failures=5, opened_at=at, next_try_at=at + timedelta(minutes=1)
        )
        work()
        assert show(api, started)["call"]["status"] == "sent"
        assert [(call.backend, call.status) for call in Call.objects.order_by("pk")] == [
            ("default", "rejected"),
            ("other", "sent"),
        ]
        assert check(api, started, ASKED[-1].code).status_code == 200

    def test_all_backends_are_paused_meanwhile(self, api, scripted, configure):
        configure(BREAKER_WAIT=60)
        started = start(api)
        at = timezone.now()
        for alias in ("default", "other"):
            CircuitBreaker.objects.create(
                backend=alias, failures=5, opened_at=at, next_try_at=at + timedelta(minutes=1)
            )
        work()
        assert not ASKED
        assert show(api, started)["call"] == {
            "status": "rejected",
            "error_code": "provider_unavailable",
        }
        assert Phone.objects.get().last_called_at is None

    def test_a_rule_that_is_added_meanwhile(self, api, outbox):
        started = start(api)
        Rule.objects.create(action="deny", prefix="+7916")
        work()
        assert not outbox
        assert show(api, started)["call"]["status"] == "rejected"

    def test_trouble_is_for_the_operator(self, api, scripted, configure):
        configure(CHANNELS={"flash_call": ["default"]})
        ANSWERS[:] = [Misconfigured("Wrong password.")]
        start(api)
        work()
        assert Call.objects.get().must_mend

    def test_the_provider_chooses_the_code(self, api, configure):
        path = f"{ChoosingBackend.__module__}.ChoosingBackend"
        configure(BACKENDS={"default": {"BACKEND": path}})
        started = start(api)
        work()
        assert check(api, started, "4711").status_code == 200


class ChoosingBackend(ScriptedBackend):
    chooses_code = True

    def place_call(self, call):
        from django_flashcall.backends import Receipt

        assert not call.code
        return Receipt(provider_id="1", code="4711")


def test_a_channel_that_was_stopped_while_the_call_waited(api, outbox):
    start(api)
    Rule.objects.create(action="deny", channel="flash_call")
    work()
    assert not outbox
    assert Call.objects.get().status == "rejected"
    assert CallCount.objects.aggregate(Sum("calls"))["calls__sum"] == 0


def test_a_channel_that_was_removed_while_the_calls_waited(api, outbox, configure, settings):
    for number in NUMBER, "+79161234568":
        start(api, number)
    configure(CHANNELS={"voice_code": ["default"]})
    work()
    assert not outbox
    assert list(Call.objects.values_list("status", flat=True)) == ["rejected"] * 2


class TestTooLate:
    @pytest.mark.parametrize("is_settled", [False, True])
    @pytest.mark.parametrize("minutes", [6, 12])
    def test_an_expired_verification(self, minutes, is_settled, api, outbox):
        started = start(api)
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            if is_settled:
                Call.settle_lost()
            work()
            assert show(api, started)["status"] == "expired"
        assert not outbox
        assert Call.objects.get().status == "rejected"
        assert not QueuedCall.objects.exists()

    def test_a_cancelled_one_gives_nothing_back(self, api, outbox):
        started = start(api)
        api.delete(f"/api/verifications/{started['id']}/")
        work()
        assert not outbox
        assert Phone.objects.get().last_called_at is not None
        assert CallCount.objects.aggregate(Sum("calls"))["calls__sum"] == 1

    def test_a_newer_call(self, api, outbox, configure):
        configure(COOLDOWN=0, DISPATCH="task")
        started = start(api)
        api.post(f"/api/verifications/{started['id']}/resend/", {}, format="json")
        old, new = Call.objects.order_by("pk")
        tasks.place_call.call(new.pk)
        tasks.place_call.call(old.pk)
        assert len(outbox) == 1
        assert check(api, started, outbox[0].code).status_code == 200

    def test_twice(self, api, outbox):
        start(api)
        call = Call.objects.get()
        for _ in range(2):
            tasks.place_call.call(call.pk)
        assert len(outbox) == 1

    def test_while_another_worker_places_it(self, api, outbox):
        start(api)
        QueuedCall.objects.update(taken_at=timezone.now())
        tasks.place_call.call(Call.objects.get().pk)
        assert not outbox
        assert Call.objects.get().status == "queued"

    def test_an_erased_number(self, api, outbox):
        start(api)
        call = Call.objects.get().pk
        services.forget(Phone.objects.get())
        tasks.place_call.call(call)
        assert not outbox


class TestRecovery:
    """Every task takes over what killed workers left."""

    def test_a_call_that_no_worker_took(self, api, outbox):
        started = start(api)
        later(dispatch.TAKEN_FOR + 1)
        tasks.place_call.call(0)
        assert show(api, started)["call"]["status"] == "sent"
        assert check(api, started, outbox[0].code).status_code == 200

    def test_not_before_its_time(self, api, outbox):
        start(api)
        tasks.place_call.call(0)
        assert not outbox

    def test_a_call_of_a_killed_worker_may_have_been_placed(self, api, outbox):
        started = start(api)
        QueuedCall.objects.update(taken_at=timezone.now())
        later(dispatch.TAKEN_FOR + 1)
        tasks.place_call.call(0)
        assert not outbox
        assert show(api, started)["call"]["status"] == "unknown"
        assert Phone.objects.get().last_called_at is not None
        assert not QueuedCall.objects.exists()

    def test_the_answer_came_but_the_row_stayed(self, api, outbox):
        start(api)
        QueuedCall.objects.update(taken_at=timezone.now())
        Call.objects.update(status="delivered")
        later(dispatch.TAKEN_FOR + 1)
        tasks.place_call.call(0)
        assert not outbox
        assert Call.objects.get().status == "delivered"
        assert not QueuedCall.objects.exists()

    @pytest.mark.parametrize("error", [TemporaryFailure("Down."), Misconfigured("Wrong.")])
    def test_an_error_of_the_second_request_says_nothing_of_the_first(
        self, error, api, scripted, monkeypatch
    ):
        monkeypatch.setattr(ScriptedBackend, "duplicate_control", True)
        started = start(api)
        QueuedCall.objects.update(taken_at=timezone.now())
        later(dispatch.TAKEN_FOR + 1)
        ANSWERS[:] = [error]
        tasks.place_call.call(0)
        assert len(ASKED) == 1
        assert show(api, started)["call"]["status"] == "unknown"
        assert check(api, started, ASKED[0].code).status_code == 200

    @pytest.mark.parametrize("reason", ["expired", "denied", "paused", "another key"])
    def test_a_call_that_may_have_been_placed_is_not_refunded(
        self, reason, api, scripted, monkeypatch, settings
    ):
        monkeypatch.setattr(ScriptedBackend, "duplicate_control", True)
        start(api)
        QueuedCall.objects.update(taken_at=timezone.now())
        later(dispatch.TAKEN_FOR + 1)
        match reason:
            case "expired":
                Verification.objects.update(expires_at=timezone.now())
            case "denied":
                Rule.objects.create(action="deny", prefix="+7916")
            case "paused":
                at = timezone.now()
                CircuitBreaker.objects.bulk_create(
                    CircuitBreaker(
                        backend=alias, failures=5, opened_at=at, next_try_at=at + timedelta(hours=1)
                    )
                    for alias in ("default", "other")
                )
                settings.FLASHCALL = {**settings.FLASHCALL, "BREAKER_WAIT": 3600}
            case "another key":
                settings.SECRET_KEY = "another"
        tasks.place_call.call(0)
        assert not ASKED
        assert Call.objects.get().status == "unknown"
        assert Phone.objects.get().last_called_at is not None
        assert not QueuedCall.objects.exists()


class TestCode:
    def test_it_follows_from_the_call_and_the_key(self, settings):
        call = Call(verification=Verification(code_length=6))
        ids = {"verification": call.verification_id, "kept": ""}
        code = codes.derive(call.reference, 6, **ids)
        assert codes.is_code(code, 6)
        assert codes.derive(call.reference, 6, **ids) == code
        settings.SECRET_KEY = "another"
        assert codes.derive(call.reference, 6, **ids) != code

    def test_a_key_that_is_rotated_while_the_call_waits(self, api, outbox, settings):
        started = start(api)
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "the next key of the site"
        work()
        assert check(api, started, outbox[0].code).status_code == 200

    def test_a_key_that_is_gone(self, api, outbox, settings):
        started = start(api)
        settings.SECRET_KEY = "the next key of the site"
        work()
        assert not outbox
        assert show(api, started)["call"]["status"] == "rejected"

    def test_codes_are_spread_evenly(self):
        found = [
            codes.derive(call.reference, 4, verification=call.reference, kept="")
            for call in (Call() for _ in range(5000))
        ]
        firsts = [sum(code[0] == str(digit) for code in found) for digit in range(10)]
        assert min(firsts) > 350  # 500 each; further off once in 10^12
        assert len(set(found)) > 3500


class TestChecks:
    def test_the_backend_without_workers(self, configure):
        from django_tasks_db.compat import task_backends

        path = (
            "django.tasks" if "django.tasks" in type(task_backends).__module__ else "django_tasks"
        )
        immediate = import_module(f"{path}.backends.immediate").ImmediateBackend
        task_backends["immediate"] = immediate("immediate", {})
        configure(DISPATCH="task", TASK_BACKEND="immediate")
        found = [message.id for message in checks.check_deployment()]
        del task_backends["immediate"]
        assert "django_flashcall.W006" in found

    def test_a_backend_with_workers(self):
        assert "django_flashcall.W006" not in [m.id for m in checks.check_deployment()]
        assert not checks.check_settings()


def test_signals(api, outbox):
    placed = []

    def receive(call, **kwargs):
        placed.append(call.pk)

    signals.call_placed.connect(receive)
    start(api)
    assert not placed
    work()
    signals.call_placed.disconnect(receive)
    assert placed == [Call.objects.get().pk]


def test_services_raise_nothing_for_the_worker(scripted):
    verification = services.start(NUMBER)
    ANSWERS[:] = [TemporaryFailure("Down."), TemporaryFailure("Down.")]
    work()
    verification.refresh_from_db()
    assert verification.status == "failed"
    with pytest.raises(FlashcallError):
        services.check(verification, "1234")


@pytest.mark.parametrize("changes", [{"TASK_BACKEND": "nothing"}, {"TASK_QUEUE": "nothing"}])
def test_tasks_that_do_not_fit(monkeypatch, configure, changes):
    """Whoever places calls in the request does not need them."""
    configure(**changes)
    assert [message.id for message in checks.check_settings()] == ["django_flashcall.E019"]
    monkeypatch.setattr(django_flashcall, "tasks", tasks)  # what follows is undone
    monkeypatch.delitem(sys.modules, "django_flashcall.tasks")
    import_module("django_flashcall.tasks")  # as Celery does
    assert [message.id for message in checks.check_settings()] == ["django_flashcall.E019"]
    configure(**changes, DISPATCH="inline")
    assert checks.check_settings() == []


def test_without_the_task_framework(monkeypatch):
    """On Django 5.2, the backport is optional."""
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(django_flashcall, "tasks", tasks)  # what follows is undone
    monkeypatch.delitem(sys.modules, "django_flashcall.tasks")
    import_module("django_flashcall.tasks")  # as Celery does
    assert [message.id for message in checks.check_settings()] == ["django_flashcall.E018"]
    with pytest.raises(ProviderUnavailable):
        services.start(NUMBER)
    assert Call.objects.get().status == "rejected"
