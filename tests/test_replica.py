"""A site whose router reads from a replica: what a transaction has written is not there yet."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import BaseBackend
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from django_flashcall import services
from django_flashcall.exceptions import FlashcallError, InvalidDestination, NoAccount, WrongCode
from django_flashcall.models import Call, GuardDecision, Phone, QueuedCall, Verification
from django_flashcall.testing import last_code
from django_flashcall.verification import dispatch

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER, OTHER = "+79161234567", "+79161234568"


class Router:
    """Reads from a replica: an error inside a transaction, and always for what was just queued."""

    def db_for_read(self, model, **hints):
        assert not (connection.in_atomic_block and model._meta.app_label == "django_flashcall")
        assert model is not QueuedCall
        return "default"

    def db_for_write(self, model, **hints):
        return "default"


class UserRouter(Router):
    """Reads new accounts from a replica. There is none, so that this is an error."""

    def db_for_read(self, model, **hints):
        if connection.in_atomic_block and model is get_user_model():
            return "replica"
        return super().db_for_read(model, **hints)


@pytest.fixture(autouse=True)
def replica(settings, configure):
    configure(COOLDOWN=10, REASSIGNED_NUMBERS=30, USER_PHONE_FIELD="last_name")
    settings.DATABASE_ROUTERS = [Router()]


def verify(number, **options):
    Phone.objects.update(last_called_at=None)
    verification = services.start(number, **options)
    return services.check(verification, last_code(number))


def test_a_read_in_a_transaction_would_be_noticed():
    from django.db import transaction

    with pytest.raises(AssertionError), transaction.atomic():
        Phone.objects.first()


def test_the_first_login(outbox, configure):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"})
    token = verify(NUMBER, purpose="login")
    with override_settings(DATABASE_ROUTERS=[UserRouter()]):
        account, phone = services.log_in(token)
    assert (account.last_name, phone.owner_id) == (NUMBER, account.pk)
    again, _phone = services.log_in(verify(NUMBER, purpose="login"))
    assert again == account


def test_the_first_login_of_somebody_inactive(outbox, configure, django_user_model):
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up", "CREATE_USER": f"{__name__}.create_inactive"})
    token = verify(NUMBER, purpose="login")
    with override_settings(DATABASE_ROUTERS=[UserRouter()]), pytest.raises(NoAccount):
        services.log_in(token)
    assert not django_user_model.objects.exists()


class Permissions(BaseBackend):
    """A backend that loads nobody."""


def test_the_backend_of_a_first_login_loads_users(outbox, configure, settings):
    names = [f"{__name__}.Permissions", "django.contrib.auth.backends.ModelBackend"]
    settings.AUTHENTICATION_BACKENDS = names
    configure(LOGIN={"UNKNOWN_NUMBER": "sign_up"})
    token = verify(NUMBER, purpose="login")
    with override_settings(DATABASE_ROUTERS=[UserRouter()]):
        account, _phone = services.log_in(token)
    assert account.backend == names[1]


def create_inactive(number):
    return get_user_model().objects.create_user("ann", last_name=number, is_active=False)


def test_a_number_moves(outbox):
    people = get_user_model().objects
    old, new = people.create_user("old", last_name=NUMBER), people.create_user("new")
    at = timezone.now() - timedelta(days=90)
    Phone.objects.create(number=NUMBER, owner=old, verified_at=at)
    for number in (OTHER, NUMBER):  # the newcomer has a number already
        token = verify(number, purpose="change", user=new)
        assert services.redeem(token, purpose="change", user=new).owner == new
    old.refresh_from_db()
    assert old.last_name == ""
    assert Phone.objects.get(number=OTHER).owner is None


def test_a_call_that_is_rejected(provider):
    with pytest.raises(InvalidDestination):
        services.start("+79161239908")
    assert Verification.objects.get().state == "failed"


def test_wrong_codes_resend_and_cancel(outbox):
    verification = services.start(NUMBER)
    wrong = f"{(int(last_code(NUMBER)) + 1) % 10000:04}"
    with pytest.raises(WrongCode):
        services.check(verification, wrong)
    Phone.objects.update(last_called_at=None)
    services.resend(verification)
    for _ in range(2):
        with pytest.raises(FlashcallError):
            services.check(verification, wrong)
    Phone.objects.update(last_called_at=None)
    services.cancel(services.start(NUMBER))


def test_reports_of_a_call(provider):
    from django_flashcall.backends import Report

    call = services.start(NUMBER).newest_call
    for outcome in ("delivered", "sent", "undelivered", "delivered"):
        report = Report(backend="default", outcome=outcome, reference=call.reference.hex)
        assert services.record_report(report) is not None


def test_a_worker_finds_a_call_of_a_moment_ago(provider, configure, monkeypatch):
    configure(DISPATCH="task")
    monkeypatch.setattr("django_flashcall.tasks.enqueue", lambda call, reservation: None)
    call = services.start(NUMBER).newest_call
    dispatch.place_queued(call.pk)
    call.refresh_from_db()
    assert call.status == "sent"


def test_the_fraud_guard_narrows(outbox, configure):
    configure(FRAUD_GUARD="deny", CALLS_PER_PREFIX=None, CALLS_PER_IP=None, COOLDOWN=0)
    for n in range(12):
        try:
            services.start(f"+791612345{n:02}", ip="203.0.113.7")
        except FlashcallError:
            break
        Call.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert GuardDecision.objects.filter(denied=True).exists()
