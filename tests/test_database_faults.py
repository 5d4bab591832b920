"""A database that cannot be written, closes its connection, or rolls a transaction back."""

import threading
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.models import Sum
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.test import APIClient

from django_flashcall import services, signals
from django_flashcall.backends import BaseBackend, Receipt, Report
from django_flashcall.database_errors import ROLLED_BACK, TRIES, is_temporary, reason, transact
from django_flashcall.exceptions import TemporaryFailure, VerificationNotFound
from django_flashcall.models import Attempt, Call, CallCount, CircuitBreaker, Phone, Verification
from django_flashcall.verification import breaker

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+79161234567"
READ_ONLY = {
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "postgresql": (
        "SET default_transaction_read_only = on",
        "SET default_transaction_read_only = off",
    ),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"),
}


def write_nothing(is_on=True):
    """Let the database refuse each write, as a full disk or a standby does."""
    on, off = READ_ONLY[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(on if is_on else off)


@pytest.fixture
def read_only():
    yield write_nothing
    connection.close_if_unusable_or_obsolete()
    write_nothing(False)


class FaultyBackend(BaseBackend):
    """The provider accepts the call, and the database can't be written before it is stored."""

    def place_call(self, call):
        write_nothing()
        return Receipt(provider_id="1")


class LoggingOutBackend(BaseBackend):
    """The visitor logs out in another window while we wait for the provider."""

    def place_call(self, call):
        Session.objects.all().delete()
        return Receipt(provider_id="1")


class RefusingBackend(BaseBackend):
    def place_call(self, call):
        raise TemporaryFailure("Overloaded.")


class ChoosingBackend(FaultyBackend):
    chooses_code = True

    def place_call(self, call):
        super().place_call(call)
        return Receipt(provider_id="1", code="1234")


@pytest.fixture
def backend(configure, read_only):
    def use(cls):
        path = f"{__name__}.{cls.__name__}"
        configure(BACKENDS={"default": {"BACKEND": path}}, CHANNELS={"flash_call": ["default"]})

    return use


@pytest.fixture
def api():
    return APIClient()


@pytest.fixture
def started(api, outbox):
    return api.post("/api/verifications/", {"phone": NUMBER}, format="json").json()


def rows():
    """What a request that failed must not have changed."""
    return (
        list(Verification.objects.values_list("state", "attempts_left", "calls_left")),
        list(Call.objects.values_list("status", "progress")),
        Attempt.objects.count(),
        list(Phone.objects.values_list("last_called_at", "owner")),
    )


class TestReadOnly:
    @pytest.mark.parametrize("step", ["start", "check", "resend", "cancel"])
    def test_the_api(self, step, api, started, outbox, read_only, configure):
        configure(COOLDOWN=0)
        path = f"/api/verifications/{started['id']}/"
        before = rows()
        read_only()
        response = {
            "start": lambda: api.post("/api/verifications/", {"phone": NUMBER}, format="json"),
            "check": lambda: api.post(f"{path}check/", {"code": outbox[0].code}, format="json"),
            "resend": lambda: api.post(f"{path}resend/", {}, format="json"),
            "cancel": lambda: api.delete(path),
        }[step]()
        read_only(False)
        assert response.status_code == 503
        assert response["Retry-After"] == "5"
        assert response.json() == {
            "detail": "Something went wrong on our side. Please try again in a few seconds.",
            "error_code": "unavailable",
            "retry_after": 5,
        }
        assert rows() == before
        assert len(outbox) == 1
        again = api.post(f"{path}check/", {"code": outbox[0].code}, format="json")
        assert again.status_code == 200

    def test_the_browsable_api(self, api, read_only):
        read_only()
        response = api.post(
            "/api/verifications/", {"phone": NUMBER}, format="json", headers={"accept": "text/html"}
        )
        assert response.status_code == 503
        assert response.json()["error_code"] == "unavailable"

    def test_the_pages(self, client, read_only, outbox):
        read_only()
        response = client.post("/phone/", {"phone": NUMBER})
        assert response.status_code == 503
        assert response["Retry-After"] == "5"
        assert "Something went wrong on our side" in response.text
        read_only(False)
        page = client.post("/phone/", {"phone": NUMBER}).url
        read_only()
        for accept in ("text/html", "application/json"):
            code = {"code": outbox[0].code}
            response = client.post(page, code, headers={"accept": accept})
            assert response.status_code == 503
        assert response.json() == {"status": "unavailable"}
        read_only(False)
        assert client.post(page, {"code": outbox[0].code}).status_code == 302

    def test_a_session_that_cannot_be_saved(self, client, read_only, outbox):
        def fill_the_disk(**kwargs):
            read_only()

        page = client.post("/phone/", {"phone": NUMBER}).url
        signals.phone_verified.connect(fill_the_disk)
        try:
            response = client.post(page, {"code": outbox[0].code})
        finally:
            signals.phone_verified.disconnect(fill_the_disk)
        assert response.status_code == 503
        assert "Something went wrong on our side" in response.text

    def test_a_session_that_cannot_be_saved_at_the_end(self, client, backend):
        backend(FaultyBackend)
        response = client.post("/phone/", {"phone": NUMBER})
        write_nothing(False)
        assert response.status_code == 503
        assert not client.cookies

    def test_a_known_session_that_cannot_be_saved(self, client, backend, outbox):
        client.post("/phone/", {"phone": NUMBER})
        backend(FaultyBackend)
        response = client.post("/phone/", {"phone": "+79161234568"})
        write_nothing(False)
        assert response.status_code == 503

    def test_a_session_that_was_deleted_meanwhile(self, client, backend, outbox):
        """Django answers it, as on other pages."""
        client.post("/phone/", {"phone": NUMBER})
        backend(LoggingOutBackend)
        response = client.post("/phone/", {"phone": "+79161234568"})
        assert response.status_code == 400


def fail_after_the_view(get_response):
    """Middleware: the database fails after the view, before Django would save the session."""

    def respond(request):
        response = get_response(request)
        if "X-Fail" in request.headers:
            write_nothing()
        return response

    return respond


def replace_the_redirect(get_response):
    """Middleware: another response, and something more for the session."""

    def respond(request):
        response = get_response(request)
        if response.status_code == 302:
            request.session["seen"] = "it"
            return HttpResponse(status=204, headers={"HX-Redirect": response.url})
        return response

    return respond


class TestSessionThatWasSaved:
    """It is not saved again: if that failed, Django would answer 400 or 500."""

    @pytest.fixture
    def client(self, settings, read_only, outbox):
        first, *others = settings.MIDDLEWARE
        session = "django.contrib.sessions.middleware.SessionMiddleware"
        assert others.pop(0) == session
        settings.MIDDLEWARE = [first, session, f"{__name__}.fail_after_the_view", *others]
        return APIClient()

    @staticmethod
    def post(client, *args, **kwargs):
        """Send a request whose view changes the session, and return the response."""
        client.get("/phone/")
        before = client.cookies["sessionid"].value if "sessionid" in client.cookies else ""
        response = client.post(*args, headers={"X-Fail": "1"}, **kwargs)
        write_nothing(False)
        assert response.cookies["sessionid"].value != before
        return response

    def test_the_pages(self, client, outbox):
        response = self.post(client, "/phone/", {"phone": NUMBER})
        assert response.status_code == 302
        response = self.post(client, response.url, {"code": outbox[0].code})
        assert response.status_code == 302
        data = {"username": "ann", "email": "", "password": "correct horse 9"}
        response = self.post(client, "/phone/signup/", data)
        assert response.status_code == 302
        assert "_auth_user_id" in client.session

    def test_a_middleware_that_changes_it_afterwards(self, settings, outbox):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.replace_the_redirect"]
        client = APIClient()
        response = client.post("/phone/", {"phone": NUMBER})
        assert response.status_code == 204
        assert client.get(response["HX-Redirect"]).status_code == 200
        assert client.session["seen"] == "it"

    def test_the_login_of_the_api(self, client, outbox):
        user = get_user_model().objects.create_user("ann")
        phone = services.start(NUMBER, purpose="login")
        Phone.objects.update(owner=user)
        token = str(services.check(phone, outbox[0].code))
        response = self.post(client, "/api/login/", {"phone_token": token}, format="json")
        assert response.status_code == 200
        assert client.session["_auth_user_id"] == str(user.pk)


class TestLostResponse:
    """The provider was asked, and the database fails before its response is stored."""

    def test_the_visitor_can_go_on(self, api, backend, caplog):
        backend(FaultyBackend)
        response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        write_nothing(False)
        assert response.status_code == 201
        call = Call.objects.get()
        assert call.status == Call.Status.QUEUED
        assert Phone.objects.get().last_called_at is not None
        assert "The provider's response was not stored" in caplog.text
        Call.objects.update(created_at=call.created_at - timedelta(seconds=61))
        path = f"/api/verifications/{response.json()['id']}/"
        assert api.get(path).json()["call"]["status"] == "unknown"
        assert Call.settle_lost() == 1
        assert Call.objects.filter(status=Call.Status.UNKNOWN).count() == 1

    def test_a_report_settles_it(self, api, backend):
        backend(FaultyBackend)
        api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        write_nothing(False)
        reference = Call.objects.get().reference
        report = Report(backend="default", reference=reference.hex, outcome="delivered")
        assert services.record_report(report).status == Call.Status.DELIVERED

    def test_a_code_that_the_provider_chose(self, api, backend, caplog):
        backend(ChoosingBackend)
        response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        write_nothing(False)
        assert response.status_code == 503
        assert response.json()["error_code"] == "unavailable"
        assert Call.objects.get().code_digest == ""
        assert "1234" not in caplog.text.replace(NUMBER, "")


class TestTransact:
    def fail(self, code):
        """Return a function that fails as the driver does, and the list of its runs."""
        runs = []

        def function():
            runs.append(Phone.objects.count())
            cause = Exception()
            cause.sqlstate = code
            raise OperationalError from cause

        return function, runs

    @pytest.mark.parametrize("code", sorted(ROLLED_BACK))
    def test_it_gives_up(self, code):
        function, runs = self.fail(code)
        with pytest.raises(OperationalError):
            transact(function, "default")
        assert len(runs) == TRIES

    @pytest.mark.parametrize("code", ["08006", "57P01", "53100"])
    def test_other_errors(self, code):
        function, runs = self.fail(code)
        with pytest.raises(OperationalError):
            transact(function, "default")
        assert len(runs) == 1

    def test_in_a_transaction_of_the_caller(self):
        function, runs = self.fail("40P01")
        with pytest.raises(OperationalError), transaction.atomic():
            transact(function, "default")
        assert len(runs) == 1


if connection.vendor != "sqlite":  # SQLite locks the whole file, and has no deadlocks

    def test_a_deadlock_is_mended():
        names = ["+79161234501", "+79161234502"]
        for name in names:
            Phone.objects.create(number=name)
        both_wait = threading.Barrier(2)
        runs, errors = [], []

        def lock(order):
            def write():
                runs.append(order)
                first, second = order
                Phone.objects.select_for_update().get(number=first)
                if len(runs) <= 2:
                    both_wait.wait(60)
                Phone.objects.select_for_update().get(number=second)

            try:
                transact(write, "default")
            except Exception as error:
                errors.append(reason(error))
            finally:
                connections.close_all()

        threads = [threading.Thread(target=lock, args=[n]) for n in (names, names[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(runs) == 3


if connection.vendor == "postgresql":

    class InterruptedBackend(BaseBackend):
        """The server closes our connection while we wait for the provider."""

        error = None

        def place_call(self, call):
            close_at_the_server()
            if self.error:
                raise self.error
            return Receipt(provider_id="1")

    class InterruptedRefusingBackend(InterruptedBackend):
        error = TemporaryFailure("Overloaded.")

    class InterruptedChoosingBackend(InterruptedBackend):
        chooses_code = True

        def place_call(self, call):
            super().place_call(call)
            return Receipt(provider_id="1", code="1234")

    def close_at_the_server():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [pid])
        other.close()

    class TestRestartWhileWaiting:
        """The response is stored through a new connection."""

        def test_success(self, client, backend):
            backend(InterruptedBackend)
            page = client.post("/phone/", {"phone": NUMBER})
            assert page.status_code == 302
            assert Call.objects.get().status == Call.Status.SENT

        def test_rejection(self, api, backend):
            backend(InterruptedRefusingBackend)
            response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
            assert response.json()["error_code"] == "provider_unavailable"
            assert Call.objects.get().status == Call.Status.REJECTED
            assert Phone.objects.get().last_called_at is None
            assert Verification.objects.get().calls_left == 3

        def test_a_code_that_the_provider_chose(self, api, backend):
            backend(InterruptedChoosingBackend)
            started = api.post("/api/verifications/", {"phone": NUMBER}, format="json").json()
            path = f"/api/verifications/{started['id']}/check/"
            assert api.post(path, {"code": "1234"}, format="json").status_code == 200

    def test_a_refund_whose_commit_was_not_confirmed(api, backend, monkeypatch):
        """It is committed, but the connection is lost before we hear it: nothing is given twice."""
        backend(RefusingBackend)
        commit, lost = connection._commit, []

        def lose_the_confirmation():
            commit()
            other = connection.copy()
            with other.cursor() as cursor:
                cursor.execute(f"SELECT status FROM {Call._meta.db_table}")
                status = cursor.fetchone()
            other.close()
            if status == ("rejected",) and not lost:
                lost.append(True)
                connection.connection.close()
                raise OperationalError

        monkeypatch.setattr(connection, "_commit", lose_the_confirmation)
        api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        assert lost
        assert Call.objects.get().status == Call.Status.REJECTED
        assert Verification.objects.get().calls_left == 3
        assert CallCount.objects.aggregate(Sum("calls"))["calls__sum"] == 0

    def test_a_connection_that_the_server_closes(api, started, outbox):
        path = f"/api/verifications/{started['id']}/check/"
        close_at_the_server()
        response = api.post(path, {"code": outbox[0].code}, format="json")
        assert response.status_code == 503
        assert response.json()["error_code"] == "unavailable"
        connection.close()
        response = api.post(path, {"code": outbox[0].code}, format="json")
        assert response.status_code == 200


class TestLateTruths:
    def test_a_breaker_from_the_future(self):
        """The clock was set back: nobody waits for hours."""
        at = timezone.now() + timedelta(hours=3)
        row = CircuitBreaker(backend="default", failures=5, opened_at=at, next_try_at=at)
        assert breaker.usable(["default"], {"default": row}, timezone.now()) == ["default"]

    def test_a_cooldown_from_the_future(self, api, started):
        Phone.objects.update(last_called_at=timezone.now() + timedelta(hours=3))
        assert Phone.objects.get().free_at() is None

    def test_a_deleted_account(self, outbox):
        user = get_user_model().objects.create_user("someone")
        verification = services.start(NUMBER, user=user)
        user.delete()
        with pytest.raises(VerificationNotFound):
            services.find(verification.pk)
        with pytest.raises(VerificationNotFound):
            services.find(verification.pk, session="")


class TestBugs:
    @pytest.mark.parametrize("statement", ["SELECT missing FROM {}", "SELECT 1 FROM missing"])
    def test_a_missing_column_or_table_does_not_pass(self, statement):
        with pytest.raises(DatabaseError) as raised, connection.cursor() as cursor:
            cursor.execute(statement.format(Call._meta.db_table))
        assert not is_temporary(raised.value)


@pytest.mark.django_db(transaction=True)
def test_rows_that_count_are_made_again_after_a_serialization_failure(outbox, monkeypatch):
    """Under REPEATABLE READ, PostgreSQL refuses rows that another request makes just now."""
    monkeypatch.setattr("django_flashcall.protection.budget._made", None)
    refused = []

    def refuse(execute, sql, *args):
        if "INSERT" in sql and "callcount" in sql and not refused:
            refused.append(sql)
            cause = Exception()
            cause.sqlstate = "40001"
            raise OperationalError("could not serialize access") from cause
        return execute(sql, *args)

    with connection.execute_wrapper(refuse):
        services.start("+79161234567")
    assert refused
    assert CallCount.objects.aggregate(n=Sum("calls"))["n"] == 1
