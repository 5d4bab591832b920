"""Calls with codes that another system keeps and checks: `place_call` and `confirm_call`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from django_flashcall import services, signals, tasks
from django_flashcall.backends import BaseBackend, Receipt
from django_flashcall.exceptions import (
    AlreadyVerified,
    Cooldown,
    FlashcallError,
    InvalidDestination,
    InvalidPhone,
    InvalidToken,
    InvalidValue,
    Misconfigured,
    NumberRejected,
    PhoneNotAllowed,
    PhoneTaken,
    ProviderUnavailable,
    TemporaryFailure,
    TooManyCalls,
    UnknownOutcome,
    VerificationNotFound,
)
from django_flashcall.models import (
    Call,
    CircuitBreaker,
    DeliveryReport,
    Phone,
    QueuedCall,
    Refusal,
    Rule,
    Verification,
)
from django_flashcall.redaction import Secret

from .test_breaker import ANSWERS, ASKED, ScriptedBackend

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
PURPOSE = "two-factor"


class ChoosingBackend(BaseBackend):
    """A provider that chooses the code."""

    chooses_code = True

    def place_call(self, call):
        ASKED.append(call)
        answer = ANSWERS.pop(0) if ANSWERS else None
        if isinstance(answer, Exception):
            raise answer
        return Receipt(provider_id="1", code=answer or "7" * call.code_length)


@pytest.fixture
def scripted(configure):
    scripted = {"BACKEND": f"{ScriptedBackend.__module__}.ScriptedBackend"}
    choosing = {"BACKEND": f"{__name__}.ChoosingBackend"}
    backends = {"default": scripted, "other": scripted, "choosing": choosing}
    ANSWERS.clear()
    ASKED.clear()

    def use(*aliases, **keys):
        configure(BACKENDS=backends, CHANNELS={"flash_call": list(aliases)}, **keys)

    use("default")
    return use


@pytest.fixture
def account(django_user_model):
    return django_user_model.objects.create_user("anna", password="x")


def place(code="123456", number=NUMBER, **options):
    return services.place_call(number, code, purpose=PURPOSE, **options)


def pause(alias):
    now = timezone.now()
    next_try_at = now + timedelta(seconds=30)
    CircuitBreaker.objects.create(backend=alias, failures=5, opened_at=now, next_try_at=next_try_at)


def work():
    for call in list(QueuedCall.objects.values_list("call", flat=True)):
        tasks.place_call.call(call)


class TestCode:
    @pytest.mark.parametrize("code", ["0042", "000042"])
    def test_the_given_one(self, outbox, code):
        placed = place(code)
        assert (outbox[0].code, placed.code) == (code, code)
        assert placed.verification.code_length == len(code)

    @pytest.mark.parametrize("length", [None, 4, 6])
    def test_a_new_one(self, outbox, length):
        placed = place(None, code_length=length)
        assert placed.code == outbox[0].code
        assert len(placed.code) == (length or 4)

    def test_the_length_of_the_site(self, outbox, configure):
        configure(CODE_LENGTH=6)
        assert len(place(None).code) == 6

    @pytest.mark.parametrize("length", [4, 6])
    def test_one_that_the_provider_chooses(self, scripted, length):
        scripted("choosing")
        placed = place(None, code_length=length)
        assert (placed.code, ASKED[0].code) == ("7" * length, "")

    def test_a_new_one_for_another_provider_than_the_one_that_chooses(self, scripted):
        scripted("choosing", "default")
        ANSWERS[:] = [TemporaryFailure("Gone.")]
        placed = place(None)
        assert [call.code for call in ASKED] == ["", placed.code]
        assert len(placed.code) == 4

    def test_providers_that_choose_are_not_used_for_a_given_one(self, scripted):
        scripted("choosing", "default")
        assert place("1234").code == ASKED[0].code == "1234"
        assert Call.objects.get().backend == "default"

    def test_a_provider_that_chooses_cannot_stand_in(self, scripted):
        scripted("default", "choosing")
        ANSWERS[:] = [TemporaryFailure("Gone.")]
        with pytest.raises(ProviderUnavailable):
            place(None)  # it was generated for the first one
        assert len(ASKED) == 1

    def test_no_provider_calls_with_a_given_one(self, scripted):
        scripted("choosing")
        with pytest.raises(ImproperlyConfigured, match="'flash_call' choose"):
            place("1234")
        assert not Verification.objects.exists()

    def test_only_a_provider_that_chooses_is_available(self, scripted):
        scripted("choosing", "default")
        pause("default")
        with pytest.raises(ProviderUnavailable):
            place("1234")
        assert not ASKED
        assert Refusal.objects.get().scope == Refusal.Scope.BREAKER

    def test_the_provider_chose_one_that_never_arrived(self, scripted):
        scripted("choosing")
        ANSWERS[:] = [UnknownOutcome("Silent.")]
        with pytest.raises(ProviderUnavailable) as caught:
            place(None)
        assert 50 < caught.value.retry_after <= 60
        call = Call.objects.get()
        assert (call.status, call.code_digest) == ("unknown", "")

    def test_the_same_one_through_another_provider(self, scripted):
        scripted("default", "other")
        ANSWERS[:] = [Misconfigured("Credentials.")]
        placed = place("123456")
        assert [call.code for call in ASKED] == ["123456", "123456"]
        assert ASKED[0].reference != ASKED[1].reference
        statuses = Call.objects.order_by("pk").values_list("backend", "status")
        assert list(statuses) == [("default", "rejected"), ("other", "sent")]
        assert placed.verification.newest_call.backend == "other"

    @pytest.mark.parametrize(
        "code", ["", "123", "12345", "1234567", "12 34", "12a4", "\u0661\u0662\u0663\u0664"]
    )
    def test_no_code(self, outbox, code):
        with pytest.raises(ValueError, match="4 or 6 digits") as caught:
            place(code)
        assert not code or code not in str(caught.value)
        assert not outbox

    @pytest.mark.parametrize("length", [0, 5, 8, -4])
    def test_no_length(self, outbox, length):
        with pytest.raises(ValueError, match="4 or 6 digits"):
            place(None, code_length=length)
        assert not outbox

    @pytest.mark.parametrize("purpose", ["signup", "", "two factor", "x" * 33])
    def test_no_name_of_another_system(self, outbox, purpose):
        with pytest.raises(ValueError, match=r"PURPOSES|letters"):
            services.place_call(NUMBER, "1234", purpose=purpose)
        assert not outbox

    def test_six_digits_are_not_spoken(self, outbox, configure):
        backend = {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}
        configure(
            BACKENDS={"default": backend},
            CHANNELS={"voice_code": ["default"], "flash_call": ["default"]},
        )
        assert place("123456").verification.channel == "flash_call"
        assert place("1234", "+79161234568").verification.channel == "voice_code"

    def test_through_the_provider(self, provider):
        placed = place("654321")
        [call] = provider.calls
        assert (call.code, call.calling_number[-6:]) == ("654321", "654321")
        assert placed.verification.newest_call.provider_id == call.mt_num


class TestSecrecy:
    def test_it_is_nowhere(self, scripted, caplog):
        caplog.set_level("DEBUG")
        scripted("default", "other")
        ANSWERS[:] = [TemporaryFailure("Gone.")]
        placed = place("648219")
        assert "648219" not in repr(placed)
        assert "648219" not in caplog.text
        assert "648219" not in everything_stored()

    def test_it_is_nowhere_while_it_waits_for_a_worker(self, configure, outbox):
        configure(DISPATCH="task")
        offsets = set()
        for number in range(20):
            place("648219", f"+79161234{500 + number}")
            assert "648219" not in everything_stored()
            offsets.add(QueuedCall.objects.latest("pk").code_offset)
        assert len(offsets) >= 19

    @pytest.mark.parametrize("code", ["64821X", "6482"])
    def test_the_error_report_does_not_show_it(self, scripted, code):
        from django.test import RequestFactory
        from django.views.debug import ExceptionReporter

        scripted("choosing")
        try:
            place(code)
        except (ValueError, ImproperlyConfigured) as error:
            own = error.__traceback__.tb_next.tb_next  # the frames of this file have it plainly
            request = RequestFactory().get("/")
            report = ExceptionReporter(request, type(error), error, own).get_traceback_text()
        assert "services.py" in report
        assert code not in report


def everything_stored():
    with connection.cursor() as cursor:
        found = []
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found += map(str, cursor.fetchall())
    return "\n".join(found)


class TestLimits:
    def test_those_of_the_number(self, outbox, api):
        place()
        with pytest.raises(Cooldown):
            place()
        response = api.post("/api/verifications/", {"phone": NUMBER}, format="json")
        assert response.json()["error_code"] == "cooldown"
        assert len(outbox) == 1

    def test_those_of_the_address(self, outbox, configure):
        configure(CALLS_PER_IP="2/hour")
        for number in ("+79161234561", "+79161234562"):
            place(number=number, ip="203.0.113.7")
        with pytest.raises(TooManyCalls):
            place(number="+79161234563", ip="203.0.113.7")
        services.confirm_call("+79161234561", purpose=PURPOSE)
        place(number="+79161234563", ip="203.0.113.7")

    def test_the_budget(self, outbox, configure):
        configure(CALLS_TOTAL="1/day")
        place()
        with pytest.raises(TooManyCalls):
            place(number="+79161234568")

    def test_rules(self, outbox):
        Rule.objects.create(action="deny", prefix="+7916")
        with pytest.raises(PhoneNotAllowed):
            place()

    def test_the_input(self, outbox):
        with pytest.raises(InvalidPhone):
            place(number="12")
        with pytest.raises(PhoneNotAllowed):
            place(number="+14155552671")

    def test_a_rejected_call_is_given_back(self, scripted):
        ANSWERS[:] = [NumberRejected("8")]
        with pytest.raises(InvalidDestination):
            place()
        place()
        states = Verification.objects.order_by("created_at").values_list("state", flat=True)
        assert list(states) == ["failed", "pending"]

    @pytest.mark.django_db(transaction=True)
    def test_fifty_at_once_place_one_call(self, outbox, configure):
        configure(MAX_CALLS_IN_FLIGHT=50)
        barrier = threading.Barrier(50)

        def call(_):
            barrier.wait()
            try:
                return place()
            except (Cooldown, TooManyCalls) as error:
                return error
            finally:
                connections.close_all()

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(call, range(50)))
        assert sum(isinstance(answer, services.PlacedCall) for answer in answers) == 1
        assert len(outbox) == 1

    @pytest.mark.django_db(transaction=True)
    def test_not_inside_a_transaction(self, outbox):
        from django.db import transaction

        with transaction.atomic(), pytest.raises(RuntimeError):
            place()
        assert not outbox

    @pytest.mark.parametrize("code", ["4321", None])
    def test_a_test_number(self, outbox, configure, code):
        configure(TEST_NUMBERS={NUMBER: "123456"})
        placed = place(code)
        assert placed.code == (code or "123456")
        assert placed.verification.code_length == len(placed.code)
        assert Call.objects.get().is_test
        assert not outbox


class TestVisitors:
    """They have no way to what another system started."""

    def test_the_api(self, outbox, api):
        placed = place("1234")
        path = f"/api/verifications/{placed.verification.pk}/"
        assert api.get(path).status_code == 404
        assert api.post(f"{path}check/", {"code": "1234"}, format="json").status_code == 404
        assert api.post(f"{path}resend/", {}, format="json").status_code == 404
        api.delete(path)
        assert Verification.objects.get().state == "pending"

    def test_the_owner_neither(self, outbox, api, account):
        placed = place("1234", user=account)
        api.force_login(account)
        path = f"/api/verifications/{placed.verification.pk}/"
        assert api.get(path).status_code == 404

    def test_its_name_is_no_purpose(self, outbox, api):
        data = {"phone": NUMBER, "purpose": PURPOSE}
        assert api.post("/api/verifications/", data, format="json").status_code == 400

    def test_a_token_of_it_is_worthless(self, outbox):
        placed = place("1234")
        token = services.check(placed.verification, "1234")
        with pytest.raises(InvalidToken):
            services.redeem(token, purpose=PURPOSE)


class TestConfirm:
    @pytest.fixture
    def sent(self):
        sent = []

        def verified(verification, **kwargs):
            sent.append(("verified", verification.status))

        def redeemed(phone, user, **kwargs):
            sent.append(("redeemed", user))

        signals.phone_verified.connect(verified)
        signals.phone_redeemed.connect(redeemed)
        yield sent
        signals.phone_verified.disconnect(verified)
        signals.phone_redeemed.disconnect(redeemed)

    def test_the_number_is_verified(self, outbox, sent, django_capture_on_commit_callbacks):
        Phone.objects.create(number=NUMBER, failures=3)
        placed = place()
        with django_capture_on_commit_callbacks(execute=True):
            phone = services.confirm_call("8 916 123-45-67", purpose=PURPOSE)
        phone.refresh_from_db()
        assert (phone.number, phone.owner, phone.failures) == (NUMBER, None, 0)
        assert phone.verified_at is not None
        verification = Verification.objects.get()
        assert verification.pk == placed.verification.pk
        assert verification.status == "redeemed"
        assert verification.verified_at is not None
        call = Call.objects.get()
        assert (call.progress, call.code_digest) == (Call.Progress.COMPLETED, "")
        assert sent == [("verified", "redeemed"), ("redeemed", None)]

    @pytest.mark.parametrize("form", [lambda v: v, lambda v: v.pk, lambda v: str(v.pk)])
    def test_the_call_that_is_named(self, outbox, configure, form):
        configure(COOLDOWN=0)
        first, second = place().verification, place().verification
        services.confirm_call(NUMBER, purpose=PURPOSE, verification=form(first))
        assert Verification.objects.get(pk=first.pk).status == "redeemed"
        assert Verification.objects.get(pk=second.pk).status == "pending"
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose=PURPOSE, verification=form(first))

    def test_the_call_that_is_named_was_to_another_number(self, outbox):
        named = place().verification
        with pytest.raises(VerificationNotFound):
            services.confirm_call("+79161234568", purpose=PURPOSE, verification=named)

    def test_it_becomes_the_number_of_an_account(self, outbox, account):
        Phone.objects.create(number="+79161234568", owner=account)
        place(user=account)
        services.confirm_call(NUMBER, purpose=PURPOSE, user=account)
        assert services.phone_of(account).number == NUMBER
        assert Verification.objects.get().redeemed_by == account
        assert Phone.objects.get(number="+79161234568").owner is None

    def test_it_belongs_to_another_account(self, outbox, account, django_user_model):
        other = django_user_model.objects.create_user("boris")
        Phone.objects.create(number=NUMBER, owner=other)
        place(user=account)
        with pytest.raises(PhoneTaken):
            services.confirm_call(NUMBER, purpose=PURPOSE, user=account)
        assert Verification.objects.get().state == "pending"
        assert Phone.objects.get().verified_at is None
        services.confirm_call(NUMBER, purpose=PURPOSE)  # without changing the owner
        assert Phone.objects.get().owner == other

    def test_once(self, outbox):
        place()
        services.confirm_call(NUMBER, purpose=PURPOSE)
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose=PURPOSE)

    def test_nothing_was_called(self, outbox):
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose=PURPOSE)
        place()
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose="another")
        with pytest.raises(VerificationNotFound):
            services.confirm_call("+79161234568", purpose=PURPOSE)
        with pytest.raises(InvalidPhone):
            services.confirm_call("12", purpose=PURPOSE)

    def test_verifications_of_the_site_are_not_confirmed(self, outbox):
        services.start(NUMBER)
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose="signup")

    def test_a_rejected_call_is_not_confirmed(self, scripted):
        ANSWERS[:] = [NumberRejected("8")]
        with pytest.raises(InvalidDestination):
            place()
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose=PURPOSE)

    def test_systems_accept_codes_for_longer_than_we_do(self, outbox, configure):
        configure(CODE_TTL=60)
        with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
            place()
            clock.shift(timedelta(hours=23))
            services.confirm_call(NUMBER, purpose=PURPOSE)
            place()
            clock.shift(timedelta(hours=25))
            with pytest.raises(VerificationNotFound):
                services.confirm_call(NUMBER, purpose=PURPOSE)

    def test_a_rollback_takes_it_back(self, outbox):
        from django.db import transaction

        place()
        with transaction.atomic():
            services.confirm_call(NUMBER, purpose=PURPOSE)
            transaction.set_rollback(True)
        assert Verification.objects.get().state == "pending"
        services.confirm_call(NUMBER, purpose=PURPOSE)

    @pytest.mark.django_db(transaction=True)
    def test_fifty_at_once(self, outbox):
        place()
        barrier = threading.Barrier(50)

        def confirm(_):
            barrier.wait()
            try:
                return services.confirm_call(NUMBER, purpose=PURPOSE)
            except VerificationNotFound:
                return None
            finally:
                connections.close_all()

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(confirm, range(50)))
        assert sum(answer is not None for answer in answers) == 1

    def test_a_report_that_comes_later(self, outbox):
        from django_flashcall.backends import Report

        placed = place()
        services.confirm_call(NUMBER, purpose=PURPOSE)
        reference = placed.verification.newest_call.reference.hex
        services.record_report(Report("default", "delivered", reference=reference))
        assert DeliveryReport.objects.count() == 1
        assert Call.objects.get().status == "delivered"


class TestWorkers:
    @pytest.fixture(autouse=True)
    def dispatched(self, outbox, configure):
        configure(DISPATCH="task")

    @pytest.mark.parametrize("code", ["0042", "999999"])
    def test_it_calls_with_the_given_code(self, outbox, code):
        placed = place(code)
        assert (placed.code, outbox) == (code, [])
        assert placed.verification.newest_call.status == "queued"
        work()
        assert [call.code for call in outbox] == [code]
        assert Call.objects.get().status == "sent"

    def test_it_calls_with_the_code_that_was_returned(self, outbox):
        placed = place(None)
        work()
        assert [call.code for call in outbox] == [placed.code]

    def test_the_request_waits_for_a_provider_that_chooses(self, scripted):
        scripted("choosing", "default", DISPATCH="task")
        assert place(None).code == "7777"
        assert not QueuedCall.objects.exists()

    @pytest.mark.parametrize("paused", [True, False])
    def test_the_same_code_through_another_provider(self, scripted, paused):
        scripted("default", "choosing", "other", DISPATCH="task")
        place("123456")
        if paused:
            pause("default")
        else:
            ANSWERS[:] = [TemporaryFailure("Gone.")]
        work()
        assert {call.code for call in ASKED} == {"123456"}
        assert Call.objects.latest("pk").backend == "other"
        assert Call.objects.latest("pk").status == "sent"

    def test_a_worker_that_is_killed_after_the_other_provider_began(self, scripted, monkeypatch):
        """The second call waits with its own offset, so that the next worker has the same code."""
        scripted("default", "other", DISPATCH="task")
        place("123456")

        class Killed(BaseException):
            pass

        ANSWERS[:] = [TemporaryFailure("Gone."), Killed()]
        monkeypatch.setattr(ScriptedBackend, "duplicate_control", True)
        with pytest.raises(Killed):
            work()
        QueuedCall.objects.update(taken_at=timezone.now() - timedelta(seconds=90))
        work()
        assert [call.code for call in ASKED] == ["123456"] * 3
        assert ASKED[1].reference == ASKED[2].reference

    def test_a_key_that_is_rotated_while_it_waits(self, outbox, settings):
        place("123456")
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "the next key of the site"
        work()
        assert outbox[0].code == "123456"

    def test_a_key_that_is_gone(self, outbox, settings):
        place("123456")
        settings.SECRET_KEY = "the next key of the site"
        work()
        assert not outbox
        assert Call.objects.get().status == "rejected"

    def test_the_other_system_was_faster(self, outbox):
        """A late worker does not call somebody who is already verified."""
        place()
        services.confirm_call(NUMBER, purpose=PURPOSE)
        work()
        assert not outbox


def test_the_code_is_masked(outbox):
    assert isinstance(place().code, Secret)


def test_the_verification_can_be_checked_once_here_too(outbox):
    placed = place("1234")
    services.check(placed.verification, "1234")
    with pytest.raises(AlreadyVerified):
        services.check(placed.verification, "1234")
    assert get_user_model().objects.count() == 0
    assert APIClient().get("/api/verifications/").status_code == 405


class TestCheckLimits:
    """`check_limits` says what `place_call` would say, and spends nothing."""

    def refusal(self, number=NUMBER, **options):
        with pytest.raises(FlashcallError) as raised:
            services.check_limits(number, **options)
        return raised.value

    def test_a_number_that_can_be_called(self, outbox):
        services.check_limits("8 916 123-45-67", ip="192.0.2.1")
        assert not Phone.objects.exists()
        place()
        assert len(outbox) == 1

    def test_the_input(self, outbox):
        assert isinstance(self.refusal("12"), InvalidPhone)
        assert isinstance(self.refusal("+14155552671"), PhoneNotAllowed)
        assert isinstance(self.refusal(channel="voice_code"), InvalidValue)
        with pytest.raises(ValueError, match="4 or 6"):
            services.check_limits(NUMBER, code_length=5)

    def test_a_rule(self, outbox):
        Rule.objects.create(prefix=NUMBER, action="deny")
        assert isinstance(self.refusal(), PhoneNotAllowed)
        assert Refusal.objects.get().reason == "phone_not_allowed"

    def test_the_cooldown(self, outbox):
        place()
        refusal = self.refusal()
        assert isinstance(refusal, Cooldown)
        assert 50 < refusal.retry_after <= 60

    def test_no_cooldown(self, outbox, configure):
        configure(COOLDOWN=0)
        place()
        services.check_limits(NUMBER)

    def test_a_locked_number(self, outbox):
        until = timezone.now() + timedelta(hours=1)
        Phone.objects.create(number=NUMBER, waits_until=until)
        refusal = self.refusal()
        assert isinstance(refusal, TooManyCalls)
        assert 3500 < refusal.retry_after <= 3600

    @pytest.mark.parametrize(
        ("limit", "scope"),
        [
            ({"CALLS_PER_PHONE": "1/day"}, "number"),
            ({"CALLS_PER_IP": "1/day"}, "address"),
            ({"CALLS_PER_PREFIX": "1/day"}, "prefix"),
            ({"CALLS_TOTAL": "1/day"}, "total"),
        ],
    )
    def test_the_windows(self, outbox, configure, limit, scope):
        configure(COOLDOWN=0, **limit)
        place(ip="192.0.2.1")
        assert isinstance(self.refusal(ip="192.0.2.1"), TooManyCalls)
        assert Refusal.objects.filter(reason="too_many_calls").get().scope == scope

    def test_stopped_calls(self, outbox):
        Rule.objects.create(channel="flash_call", action="deny")
        assert isinstance(self.refusal(), ProviderUnavailable)

    def test_a_paused_provider(self, scripted):
        pause("default")
        assert isinstance(self.refusal(), ProviderUnavailable)

    def test_a_test_number(self, outbox, configure):
        configure(TEST_NUMBERS={NUMBER: "123456"})
        pause("default")
        services.check_limits(NUMBER)


class TestPretend:
    """`pretend_call` is `place_call` without the call."""

    def pretend(self, number=NUMBER, **options):
        return services.pretend_call(number, purpose="nobody", **options)

    def test_nobody_is_called(self, outbox, caplog):
        verification = self.pretend(ip="192.0.2.1")
        assert not outbox
        assert not caplog.records
        call = Call.objects.get()
        assert (call.is_test, call.backend, call.status) == (True, "", "sent")
        assert (call.network, call.prefix) == ("192.0.2.1", "+7916123")
        assert verification.newest_call == call
        assert (verification.channel, verification.code_length) == ("flash_call", 4)
        assert self.pretend("+79161234568", code_length=6).code_length == 6

    def test_nothing_verifies_it(self, outbox):
        self.pretend()
        with pytest.raises(VerificationNotFound):
            services.confirm_call(NUMBER, purpose=PURPOSE)

    def test_limits_count_it(self, outbox, configure):
        self.pretend()
        with pytest.raises(Cooldown):
            place()
        configure(COOLDOWN=0, CALLS_TOTAL="1/day")
        with pytest.raises(TooManyCalls):
            self.pretend("+79161234568")

    def test_it_fails_like_a_call(self, scripted, configure):
        with pytest.raises(PhoneNotAllowed):
            self.pretend("+14155552671")
        pause("default")
        with pytest.raises(ProviderUnavailable):
            self.pretend()
        scripted("choosing")
        with pytest.raises(ImproperlyConfigured):
            self.pretend(code_length=4)

    def test_no_worker_places_it(self, outbox, configure):
        configure(DISPATCH="task")
        self.pretend()
        assert not QueuedCall.objects.exists()
        work()
        assert not outbox

    @pytest.mark.django_db(transaction=True)
    def test_not_inside_a_transaction(self, outbox):
        from django.db import transaction

        with transaction.atomic(), pytest.raises(RuntimeError):
            self.pretend()

    def test_the_admin_says_so(self, outbox, admin_client):
        verification = self.pretend()
        path = "/admin/django_flashcall/"
        assert "(not placed)" in admin_client.get(f"{path}call/").content.decode()
        page = admin_client.get(f"{path}verification/{verification.pk}/change/")
        assert "not placed, for a test number" in page.content.decode()
