from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.utils import timezone

from django_flashcall import services, signals
from django_flashcall.backends import BaseBackend, CallRequest, Receipt
from django_flashcall.exceptions import (
    AlreadyVerified,
    Cooldown,
    DuplicateCall,
    DuplicateRejected,
    InvalidCode,
    InvalidDestination,
    InvalidPhone,
    InvalidToken,
    InvalidValue,
    Misconfigured,
    NumberRejected,
    PhoneNotAllowed,
    PhoneNotFound,
    PhoneTaken,
    ProviderUnavailable,
    TemporaryFailure,
    TooManyAttempts,
    TooManyCalls,
    UnknownOutcome,
    VerificationCancelled,
    VerificationExpired,
    VerificationNotFound,
    WrongCode,
)
from django_flashcall.models import Attempt, Call, Phone, Verification

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"


class ScriptedBackend(BaseBackend):
    """A backend whose next answers a test chooses; it then places calls."""

    answers: list[BaseException | Receipt] = []
    requests: list[CallRequest] = []

    def place_call(self, request: CallRequest) -> Receipt:
        self.requests.append(request)
        if not self.answers:
            return Receipt("4711")
        answer = self.answers.pop(0)
        if isinstance(answer, Receipt):
            return answer
        raise answer


@pytest.fixture
def backend(configure):
    configure(BACKENDS={"default": {"BACKEND": f"{__name__}.ScriptedBackend"}})
    ScriptedBackend.answers, ScriptedBackend.requests = [], []
    return ScriptedBackend


@pytest.fixture
def users():
    create = get_user_model().objects.create_user
    return create(username="ann"), create(username="bob")


def wrong(code):
    return str((int(code) + 1) % 10**4).zfill(4)


def fail(verification, code, times=1):
    for _ in range(times):
        with pytest.raises(WrongCode):
            services.check(verification, wrong(code))


def token_of(outbox, number=NUMBER, **kwargs):
    verification = services.start(number, **kwargs)
    return services.check(verification, outbox[-1].code)


# start


def test_start_places_a_call_with_a_fresh_code(outbox):
    verification = services.start("8 (916) 123-45-67", ip="203.0.113.9")
    (request,) = outbox
    assert request.phone == NUMBER
    assert len(request.code) == 4
    assert request.channel == "flash_call"
    assert request.reference == verification.newest_call.reference.hex != verification.pk.hex
    verification = Verification.objects.get()
    assert verification.status == "pending"
    assert verification.phone.number == NUMBER
    assert (verification.attempts_left, verification.calls_left) == (3, 2)
    assert verification.expires_at - verification.created_at == timedelta(seconds=300)
    assert Call.objects.get().status == "sent"
    assert Call.objects.get().answered_at is not None


def test_the_receipt_is_kept(backend):
    services.start(NUMBER)
    assert Call.objects.get().provider_id == "4711"


@pytest.mark.parametrize(
    ("error", "kwargs"),
    [
        (InvalidPhone, {"phone": "12"}),
        (PhoneNotAllowed, {"phone": "+447400123456"}),
        (InvalidValue, {"channel": "sms"}),
        (InvalidValue, {"channel": "voice_code"}),
        (InvalidValue, {"purpose": "no such"}),
    ],
)
def test_what_is_refused_leaves_nothing_behind(outbox, error, kwargs):
    with pytest.raises(error):
        services.start(**{"phone": NUMBER, **kwargs})
    assert not outbox
    assert not Phone.objects.exists()


def test_a_purpose_brings_its_own_settings(outbox, configure):
    configure(PURPOSES={"login": {"CODE_LENGTH": 6, "CODE_TTL": 90, "MAX_ATTEMPTS": 2}})
    verification = services.start(NUMBER, purpose="login")
    assert len(outbox[0].code) == verification.code_length == 6
    assert verification.attempts_left == 2
    assert verification.expires_at - verification.created_at == timedelta(seconds=90)


def test_the_voice_channel_has_its_own_backend(outbox, configure):
    locmem = {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}
    configure(
        BACKENDS={"default": locmem, "voice": locmem},
        CHANNELS={"flash_call": ["default"], "voice_code": ["voice"]},
    )
    verification = services.start(NUMBER, channel="voice_code")
    assert outbox[0].channel == verification.channel == "voice_code"
    assert Call.objects.get().backend == "voice"
    assert verification.channels == ["flash_call", "voice_code"]


@pytest.mark.parametrize(
    ("answer", "error", "word"),
    [
        (
            NumberRejected("destAddr is not correct", code=8),
            InvalidDestination,
            "invalid_destination",
        ),
        (DuplicateRejected("Prohibited", code=10), DuplicateCall, "duplicate_call"),
        (
            TemporaryFailure("Service is unavailable", code=1),
            ProviderUnavailable,
            "provider_unavailable",
        ),
        (Misconfigured("Invalid login", code=5), ProviderUnavailable, "provider_unavailable"),
    ],
)
def test_a_rejected_call_is_given_back_and_fails_its_verification(backend, answer, error, word):
    backend.answers = [answer]
    with pytest.raises(error) as caught:
        services.start(NUMBER)
    assert caught.value.__context__ is None
    call = Call.objects.get()
    assert (call.status, call.error_code, call.code_digest) == ("rejected", word, "")
    assert (call.provider_code, call.provider_message) == (answer.code, answer.description)
    assert Verification.objects.get().status == "failed"
    assert Phone.objects.get().last_called_at is None
    assert services.start(NUMBER).status == "pending"


def test_an_unknown_outcome_is_no_error_and_its_code_verifies(backend):
    backend.answers = [UnknownOutcome("timed out")]
    verification = services.start(NUMBER)
    assert verification.newest_call.status == Call.objects.get().status == "unknown"
    assert verification.newest_call.error_code == ""
    with pytest.raises(Cooldown):
        services.start(NUMBER)
    assert services.check(verification, backend.requests[0].code)


def test_a_failure_that_may_have_placed_the_call_keeps_its_place(backend):
    backend.answers = [TemporaryFailure("100", code=100, may_have_been_placed=True)]
    with pytest.raises(ProviderUnavailable) as caught:
        services.start(NUMBER)
    assert 58 <= caught.value.retry_after <= 60
    assert Call.objects.get().status == "unknown"
    with pytest.raises(Cooldown):
        services.start(NUMBER)
    assert services.check(Verification.objects.get(), backend.requests[0].code)


def test_a_bug_in_a_backend_is_an_unknown_outcome(backend, caplog):
    backend.answers = [KeyError("the code was 1234")]
    verification = services.start(NUMBER)
    assert verification.newest_call.status == "unknown"
    assert "KeyError" in caplog.text
    assert "1234" not in caplog.text.replace(NUMBER, "").replace("4567", "")


def test_a_backend_that_returns_no_receipt_is_an_unknown_outcome(configure, caplog, monkeypatch):
    monkeypatch.setattr(ScriptedBackend, "place_call", lambda self, request: None)
    configure(BACKENDS={"default": {"BACKEND": f"{__name__}.ScriptedBackend"}})
    assert services.start(NUMBER).newest_call.status == Call.objects.get().status == "unknown"
    assert "A backend raised TypeError" in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        {"BACKEND": "django_flashcall.backends.flashingcall.FlashingCallBackend"},
        {"BACKEND": f"{__name__}.ScriptedBackend", "OPTIONS": {"login": "credential"}},
    ],
)
def test_wrong_settings_of_a_backend_place_no_call(configure, entry, caplog):
    """A server does not run the checks before it starts."""
    backends = {"wrong": entry, "default": {"BACKEND": f"{__name__}.ScriptedBackend"}}
    configure(BACKENDS=backends, CHANNELS={"flash_call": ["wrong"]})
    with pytest.raises(ProviderUnavailable):
        services.start(NUMBER)
    call = Call.objects.get()
    assert (call.status, call.must_mend) == ("rejected", True)
    assert Phone.objects.get().last_called_at is None
    assert "credential" not in caplog.text + call.provider_message
    configure(BACKENDS=backends, CHANNELS={"flash_call": ["wrong", "default"]})
    assert services.start(NUMBER).newest_call.status == "sent"


def test_a_process_killed_while_the_provider_is_asked_leaves_a_queued_call(backend):
    backend.answers = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        services.start(NUMBER)
    assert Call.objects.get().status == "queued"
    with pytest.raises(Cooldown):
        services.start(NUMBER)
    assert services.check(Verification.objects.get(), backend.requests[0].code)


def test_a_start_leaves_other_verifications_of_the_number_alone(outbox, configure):
    configure(COOLDOWN=0)
    first = services.start(NUMBER)
    second = services.start(NUMBER)
    assert services.check(first, outbox[0].code)
    assert services.check(second, outbox[1].code)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["start", "resend", "check"])
def test_what_counts_refuses_to_run_inside_a_transaction(outbox, name):
    verification = services.start("+79161234560")
    arguments = {"start": (NUMBER,), "resend": (verification,), "check": (verification, "1234")}
    with pytest.raises(RuntimeError, match="non_atomic"), transaction.atomic():
        getattr(services, name)(*arguments[name])
    assert Call.objects.count() == 1
    assert not Attempt.objects.exists()


def test_test_numbers_are_never_called(outbox, configure, caplog):
    configure(TEST_NUMBERS={"+72101234567": "246810"})
    verification = services.start("72101234567")
    assert not outbox
    call = Call.objects.get()
    assert (call.is_test, call.status, call.backend) == (True, "sent", "")
    assert verification.code_length == 6
    assert "Test number" in caplog.text
    assert services.check(verification, "246810")


# limits of the number


def test_cooldown(outbox, time_machine):
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    services.start(NUMBER)
    time_machine.move_to(start + timedelta(seconds=20), tick=False)
    with pytest.raises(Cooldown) as caught:
        services.start(NUMBER)
    assert caught.value.retry_after == 40
    services.start("+79161234568")
    time_machine.move_to(start + timedelta(seconds=60), tick=False)
    services.start(NUMBER)
    assert len(outbox) == 3


def test_calls_per_phone_count_over_all_verifications_in_a_sliding_window(
    outbox, configure, time_machine
):
    configure(COOLDOWN=0, CALLS_PER_PHONE="3/hour")
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    services.start(NUMBER)
    time_machine.shift(600)
    services.start(NUMBER)
    time_machine.shift(600)
    services.start(NUMBER)
    with pytest.raises(TooManyCalls) as caught:
        services.start(NUMBER)
    assert caught.value.retry_after == 3600 - 1200
    time_machine.shift(2400)
    services.start(NUMBER)
    with pytest.raises(TooManyCalls):
        services.start(NUMBER)
    assert len(outbox) == 4


def test_one_address_uses_up_half_of_a_numbers_calls_at_most(outbox, configure):
    configure(COOLDOWN=0, CALLS_PER_PHONE="5/day")
    for _ in range(3):
        services.start(NUMBER, ip="2001:db8::1")
    with pytest.raises(TooManyCalls) as caught:
        services.start(NUMBER, ip="2001:db8::2")  # another address of the same subscriber
    assert caught.value.retry_after > 86_000
    services.start(NUMBER, ip="203.0.113.9")
    services.start(NUMBER)
    with pytest.raises(TooManyCalls):
        services.start(NUMBER)
    assert len(outbox) == 5


def test_rejected_calls_count_for_no_limit_of_the_number(backend, configure):
    configure(CALLS_PER_PHONE="1/day")
    for _ in range(3):
        backend.answers = [NumberRejected(code=8)]
        with pytest.raises(InvalidDestination):
            services.start(NUMBER)
    services.start(NUMBER)


def test_a_number_waits_after_too_many_wrong_codes(outbox, configure, time_machine):
    configure(COOLDOWN=0, MAX_FAILURES=4, CALLS_PER_PHONE="100/day", CODE_TTL=600)
    now = timezone.now()
    time_machine.move_to(now, tick=False)
    first, second, third = (services.start(NUMBER) for _ in range(3))
    codes = [request.code for request in outbox]
    fail(first, codes[0], 3)
    fail(second, codes[1])
    assert Phone.objects.get().waits_until == now + timedelta(hours=1)
    with pytest.raises(TooManyCalls) as caught:
        services.start(NUMBER)
    assert caught.value.retry_after == 3600
    with pytest.raises(TooManyAttempts) as refused:
        services.check(second, codes[1])
    assert refused.value.retry_after == 3600
    second.refresh_from_db()
    assert second.attempts_left == 2  # not evaluated, so not spent
    # A verification without a wrong code of its own is not stopped by others' guesses.
    assert services.check(third, codes[2])
    phone = Phone.objects.get()
    assert (phone.failures, phone.waits_until) == (0, None)
    services.start(NUMBER)


def test_waits_double_up_to_a_day(outbox, configure, time_machine):
    configure(COOLDOWN=0, MAX_FAILURES=2, MAX_ATTEMPTS=1, CALLS_PER_PHONE="100/day")
    now = timezone.now()
    time_machine.move_to(now, tick=False)
    started = [services.start(NUMBER) for _ in range(9)]
    hours = []
    for verification, request in zip(started, outbox, strict=True):
        fail(verification, request.code)
        until = Phone.objects.get().waits_until
        hours.append(None if until is None else (until - now) / timedelta(hours=1))
    assert hours == [None, 1, 2, 4, 8, 16, 24, 24, 24]
    assert Phone.objects.get().failures == 9


def test_a_new_call_never_clears_the_count(outbox, configure):
    configure(COOLDOWN=0)
    fail(services.start(NUMBER), outbox[-1].code, 2)
    services.start(NUMBER)
    assert Phone.objects.get().failures == 2


# check


def test_the_right_code_gives_a_token_and_ends_the_verification(outbox):
    verification = services.start(NUMBER)
    seen = []
    signals.phone_verified.connect(lambda verification, **_: seen.append(verification), weak=False)
    token = services.check(verification, f" {outbox[0].code[:2]}-{outbox[0].code[2:]} ")
    assert outbox[0].code not in repr(token)
    verification.refresh_from_db()
    assert verification.status == "verified"
    assert verification.verified_at is not None
    assert Call.objects.get().code_digest == ""
    assert seen == [verification]
    with pytest.raises(AlreadyVerified):
        services.check(verification, outbox[0].code)
    with pytest.raises(AlreadyVerified):
        services.resend(verification)
    assert not Attempt.objects.exists()  # only wrong codes have a row


def test_no_more_guesses_are_evaluated_than_permitted(outbox):
    verification = services.start(NUMBER)
    for left in (2, 1, 0):
        with pytest.raises(WrongCode) as caught:
            services.check(verification, wrong(outbox[0].code))
        assert caught.value.attempts_left == left
    with pytest.raises(TooManyAttempts) as caught:
        services.check(verification, outbox[0].code)
    assert caught.value.retry_after >= 1
    verification.refresh_from_db()
    assert verification.status == "failed"
    assert Attempt.objects.count() == 3
    assert Call.objects.get().code_digest == ""
    with pytest.raises(TooManyAttempts) as caught:
        services.resend(verification)
    assert caught.value.field is None


@pytest.mark.parametrize("typed", ["", "123", "12345", "12a4", "一二三四", "1234\x00", "½234"])
def test_what_cannot_be_a_code_spends_no_attempt(outbox, typed):
    verification = services.start(NUMBER)
    with pytest.raises(InvalidCode):
        services.check(verification, typed)
    verification.refresh_from_db()
    assert verification.attempts_left == 3


def test_an_expired_verification(outbox, time_machine):
    verification = services.start(NUMBER)
    time_machine.move_to(verification.expires_at, tick=False)
    for typed in (outbox[0].code, "x"):
        with pytest.raises(VerificationExpired):
            services.check(verification, typed)
    with pytest.raises(VerificationExpired) as caught:
        services.resend(verification)
    assert caught.value.field is None
    assert verification.status == "expired"
    assert verification.channels == []
    assert verification.resend_at is None
    assert Call.objects.get().code_digest == ""


def test_cancel_ends_a_pending_verification_and_no_other(outbox):
    verification = services.start(NUMBER)
    services.cancel(verification)
    assert verification.status == "cancelled"
    with pytest.raises(VerificationCancelled):
        services.check(verification, outbox[0].code)
    assert Call.objects.get().code_digest == ""
    assert Phone.objects.get().last_called_at is not None
    other = services.start("+79161234568")
    services.check(other, outbox[1].code)
    services.cancel(other)
    assert other.status == "verified"


def test_a_code_serves_its_own_verification_only(outbox):
    services.start(NUMBER)
    other = services.start("+79161234568")
    if outbox[0].code != outbox[1].code:
        with pytest.raises(WrongCode):
            services.check(other, outbox[0].code)


# resend


def test_a_resend_is_another_call_of_the_same_verification(outbox, configure, time_machine):
    time_machine.move_to(timezone.now(), tick=False)
    verification = services.start(NUMBER)
    fail(verification, outbox[0].code)
    expires_at = verification.expires_at
    time_machine.shift(61)
    services.resend(verification)
    assert Verification.objects.count() == 1
    assert Call.objects.count() == 2
    assert outbox[0].reference != outbox[1].reference
    assert (verification.attempts_left, verification.calls_left) == (2, 1)
    assert verification.expires_at == expires_at
    assert verification.newest_call == Call.objects.latest("pk")
    time_machine.shift(61)
    services.resend(verification)
    assert verification.resend_at is None
    assert verification.channels == []
    time_machine.shift(61)
    with pytest.raises(TooManyCalls):
        services.resend(verification)
    assert services.check(verification, outbox[2].code)


def test_only_the_newest_code_verifies(outbox, configure):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER)
    services.resend(verification)
    if outbox[0].code != outbox[1].code:
        with pytest.raises(WrongCode):
            services.check(verification, outbox[0].code)
    assert services.check(verification, outbox[1].code)


def test_a_rejected_resend_leaves_the_earlier_code_valid(backend, configure):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER)
    backend.answers = [DuplicateRejected(code=10)]
    with pytest.raises(DuplicateCall):
        services.resend(verification)
    verification.refresh_from_db()
    assert verification.status == "pending"
    assert verification.calls_left == 2
    assert services.check(verification, backend.requests[0].code)


def test_a_resend_whose_outcome_is_unknown_has_the_code_that_verifies(backend, configure):
    configure(COOLDOWN=0)
    verification = services.start(NUMBER)
    backend.answers = [UnknownOutcome()]
    services.resend(verification)
    assert services.check(verification, backend.requests[1].code)


def test_a_resend_waits_for_the_cooldown_and_loses_nothing(outbox):
    verification = services.start(NUMBER)
    with pytest.raises(Cooldown):
        services.resend(verification)
    assert verification.calls_left == Verification.objects.get().calls_left == 2


# find


def test_who_may_see_a_verification(outbox, configure, users):
    configure(COOLDOWN=0)
    ann, bob = users
    anyones = services.start(NUMBER)
    anns = services.start(NUMBER, user=ann)
    sessions = services.start(NUMBER, session="value")
    assert services.find(anyones.pk) == services.find(str(anyones.pk)) == anyones
    with pytest.raises(VerificationNotFound):
        services.find("not an id")
    assert services.find(anyones.pk, user=bob, session="other") == anyones
    assert services.find(anns.pk, user=ann) == anns
    assert services.find(sessions.pk, session="value") == sessions
    for verification, visitor in [
        (anns, {}),
        (anns, {"user": bob}),
        (sessions, {}),
        (sessions, {"session": "other"}),
        (sessions, {"user": ann}),
    ]:
        with pytest.raises(VerificationNotFound):
            services.find(verification.pk, **visitor)


def test_the_value_of_a_session_has_to_fit(outbox):
    verification = services.start(NUMBER, session="s" * 64)
    assert services.find(verification.pk, session="s" * 64) == verification
    with pytest.raises(ValueError, match="65 characters, more than 64"):
        services.start("+79161234568", session="s" * 65)
    with pytest.raises(VerificationNotFound):
        services.find(verification.pk, session="s" * 65)
    assert len(outbox) == 1


# tokens


def test_a_token_is_redeemed_once_and_gives_the_number_its_owner(outbox, users):
    ann, bob = users
    token = token_of(outbox)
    phone = services.redeem(token, user=ann)
    assert phone.number == NUMBER
    assert Phone.objects.get().owner == ann
    assert Phone.objects.get().verified_at is not None
    assert Verification.objects.get().status == "redeemed"
    for person in (ann, bob, None):
        with pytest.raises(InvalidToken):
            services.redeem(token, user=person)


@pytest.mark.parametrize("token", ["", "x", "a:b:c", "\x00", "🔑", ".eJw:1:2", "x" * 10_000])
def test_forged_tokens(token):
    with pytest.raises(InvalidToken):
        services.redeem(token)


def test_tokens_of_other_purposes_persons_and_times(outbox, configure, users, time_machine):
    configure(COOLDOWN=0, PURPOSES={"signup": {}, "login": {}})
    ann, bob = users
    with pytest.raises(InvalidToken):
        services.redeem(token_of(outbox), purpose="login")
    with pytest.raises(InvalidToken):
        services.redeem(token_of(outbox), purpose="no such")
    with pytest.raises(InvalidToken):
        services.redeem(token_of(outbox, user=ann), user=bob)
    with pytest.raises(InvalidToken):
        services.redeem(token_of(outbox, session="value"))
    assert services.redeem(token_of(outbox, session="value"), session="value")
    token = token_of(outbox)
    time_machine.move_to(timezone.now() + timedelta(seconds=601))
    with pytest.raises(InvalidToken):
        services.redeem(token)


def test_a_number_has_one_owner_and_an_owner_one_number(outbox, configure, users):
    configure(COOLDOWN=0)
    ann, bob = users
    services.redeem(token_of(outbox), user=ann)
    token = token_of(outbox)
    with pytest.raises(PhoneTaken):
        services.redeem(token, user=bob)
    assert Phone.objects.get().owner == ann
    services.redeem(token, user=ann)  # still unspent, and the owner may verify anew
    other = "+79161234568"
    services.redeem(token_of(outbox, other), user=ann)
    assert Phone.objects.get(number=other).owner == ann
    assert Phone.objects.get(number=NUMBER).owner is None
    services.redeem(token_of(outbox), user=bob)
    bob.delete()
    assert Phone.objects.get(number=NUMBER).owner is None


def test_redeeming_without_a_user_leaves_the_owner(outbox, configure, users):
    configure(COOLDOWN=0)
    ann, _ = users
    services.redeem(token_of(outbox), user=ann)
    assert services.redeem(token_of(outbox)).owner == ann


def test_a_rolled_back_redemption_leaves_the_token_unspent(outbox, users):
    ann, bob = users
    token = token_of(outbox)
    with transaction.atomic():
        services.redeem(token, user=ann)
        transaction.set_rollback(True)
    assert services.redeem(token, user=bob).owner == bob


def test_a_redeemed_number_fills_the_field_of_the_user(outbox, configure, users):
    configure(USER_PHONE_FIELD="last_name")
    ann, _ = users
    services.redeem(token_of(outbox), user=ann)
    ann.refresh_from_db()
    assert ann.last_name == NUMBER


# no error of a person counts as none of the operator's


def test_what_the_operator_must_mend_is_logged_once_and_not_told_to_visitors(
    backend, caplog, monkeypatch
):
    from django_flashcall.verification import calls

    monkeypatch.setattr(calls, "_troubles", {})
    for _ in range(3):
        backend.answers = [Misconfigured("Invalid password", code=6, http_status=401)]
        with pytest.raises(ProviderUnavailable) as caught:
            services.start(NUMBER)
        assert "password" not in str(caught.value)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "Invalid password" in errors[0].getMessage()
    assert errors[0].backend == "default"
    assert NUMBER not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_check_inside_a_transaction(outbox):
    """As packages do that check codes in one of theirs, see `contrib.otp`."""
    seen = []
    verification = services.start("+79161234567")
    wrong = "0000" if outbox[0].code != "0000" else "1111"

    def see(verification, **kwargs):
        seen.append(verification.status)

    signals.phone_verified.connect(see)
    with transaction.atomic():
        with pytest.raises(RuntimeError):
            services.check(verification, wrong)
        with pytest.raises(WrongCode):
            services.check(verification, wrong, durable=False)
        services.check(verification, outbox[0].code, durable=False)
        assert seen == []
    signals.phone_verified.disconnect(see)
    assert seen == ["verified"]
    assert Verification.objects.get().attempts_left == 1


class TestFindAndCheck:
    """It is `find` and `check`, with one query less."""

    def check(self, verification, code, **visitor):
        found, token = services.find_and_check(verification.pk, code, **visitor)
        assert found == verification
        return token

    def test_the_visitor_who_started(self, outbox):
        user = get_user_model().objects.create_user("ann")
        for n, visitor in enumerate(({}, {"session": "hers"}, {"user": user})):
            number = f"+7916123456{n}"
            verification = services.start(number, **visitor)
            with pytest.raises(WrongCode):
                self.check(verification, wrong(outbox[-1].code), **visitor)
            token = self.check(verification, outbox[-1].code, **visitor)
            assert services.redeem(token, **visitor).number == number

    def test_an_app_without_a_session(self, outbox):
        verification = services.start(NUMBER)
        assert self.check(verification, outbox[-1].code, session="of a browser")

    @pytest.mark.parametrize("others", [{}, {"session": "theirs"}, {"user": "bob"}])
    @pytest.mark.parametrize("visitor", [{"session": "hers"}, {"user": "ann"}])
    def test_nobody_else_can_spend_an_attempt(self, outbox, visitor, others):
        def known(visitor):
            name = visitor.get("user")
            return {"user": get_user_model().objects.create_user(name)} if name else visitor

        verification = services.start(NUMBER, **known(visitor))
        for code in (outbox[0].code, wrong(outbox[0].code)):
            with pytest.raises(VerificationNotFound):
                services.find_and_check(verification.pk, code, **known(others))
            others = {}
        verification.refresh_from_db()
        assert (verification.attempts_left, verification.state) == (3, "pending")

    def test_a_session_whose_user_has_logged_out(self, outbox):
        user = get_user_model().objects.create_user("ann")
        verification = services.start(NUMBER, user=user, session="hers")
        with pytest.raises(VerificationNotFound):
            self.check(verification, outbox[0].code, session="hers")
        verification.refresh_from_db()
        assert verification.attempts_left == 3

    def test_the_verification_of_another_system(self, outbox):
        placed = services.place_call(NUMBER, purpose="otp")
        with pytest.raises(VerificationNotFound):
            services.find_and_check(placed.verification.pk, placed.code)
        placed.verification.refresh_from_db()
        assert placed.verification.attempts_left == 3

    def test_the_address_as_a_proxy_writes_it(self, outbox):
        """What cannot be stored as an address must not give the attempt back."""
        for address in ("1.2.3.4:80", "[2001:db8::1]:80", "of nobody"):
            Phone.objects.all().delete()
            verification = services.start(NUMBER, ip=address)
            with pytest.raises(WrongCode):
                self.check(verification, wrong(outbox[-1].code), ip=address)
            with pytest.raises(WrongCode):
                services.check(verification, wrong(outbox[-1].code), ip=address)
            verification.refresh_from_db()
            assert verification.attempts_left == 1
            assert self.check(verification, outbox[-1].code, ip=address)
        verification.refresh_from_db()
        assert verification.verified_ip is None

    @pytest.mark.parametrize("code", ["123", "123456", "abcd", ""])
    def test_what_cannot_be_its_code(self, outbox, code):
        verification = services.start(NUMBER)
        with pytest.raises(InvalidCode):
            self.check(verification, code)
        verification.refresh_from_db()
        assert verification.attempts_left == 3

    def test_the_id_as_a_string(self, outbox):
        verification = services.start(NUMBER)
        assert services.find_and_check(str(verification.pk), outbox[0].code)[0] == verification
        with pytest.raises(VerificationNotFound):
            services.find_and_check("1", outbox[0].code)

    def test_it_has_ended(self, outbox):
        verification = services.start(NUMBER)
        services.cancel(verification)
        with pytest.raises(VerificationCancelled):
            self.check(verification, outbox[0].code)

    def test_a_later_call_that_was_rejected(self, backend, monkeypatch, configure):
        """Its code is not valid, but it is the newest call."""
        configure(COOLDOWN=0)
        verification = services.start(NUMBER)
        code = ScriptedBackend.requests[-1].code
        backend.answers = [NumberRejected("Unknown number.")]
        with pytest.raises(InvalidDestination):
            services.resend(verification)
        found, _token = services.find_and_check(verification.pk, code)
        assert found.newest_call == Call.objects.latest("pk")
        assert found.newest_call.status == "rejected"


class TestWhatABackendOfTheSiteReturns:
    """Its provider's JSON, as it is: what the type hints forbid, and nothing checks."""

    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            (8812345, "8812345"),
            (0, "0"),
            ("8812345", "8812345"),
            (None, ""),
            ("a" * 65, ""),
            ("a\0b", ""),
        ],
    )
    def test_the_identifier(self, backend, given, stored):
        backend.answers = [Receipt(provider_id=given)]
        call = services.start(NUMBER).newest_call
        call.refresh_from_db()
        assert (call.status, call.provider_id) == ("sent", stored)

    @pytest.mark.parametrize(
        ("given", "stored"),
        [("17", 17), (17, 17), (2**40, None), (float("inf"), None), ("E17", None), (None, None)],
    )
    def test_the_number_of_an_error(self, backend, given, stored):
        backend.answers = [NumberRejected("Unknown number.", code=given)]
        with pytest.raises(InvalidDestination):
            services.start(NUMBER)
        call = Call.objects.get()
        assert (call.status, call.provider_code) == ("rejected", stored)
        assert Phone.objects.get().last_called_at is None


class TestUnusualAccounts:
    @pytest.mark.parametrize("user", [lambda: get_user_model()(), lambda: deleted("ann")])
    def test_an_account_that_is_not_in_the_database_has_no_number(self, user):
        Phone.objects.create(number=NUMBER)
        assert services.phone_of(user()) is None
        assert not services.has_verified_phone(user())
        with pytest.raises(PhoneNotFound):
            services.remove_phone(user())

    def test_the_user_of_a_json_web_token(self, outbox):
        """It is not a model: it has the key in its token, and nothing of the database."""
        jwt = pytest.importorskip("rest_framework_simplejwt.models")
        tokens = pytest.importorskip("rest_framework_simplejwt.tokens")
        ann, bob = map(get_user_model().objects.create_user, ("ann", "bob"))
        verification = services.start(NUMBER, purpose="change", user=ann)
        me, other = (jwt.TokenUser(tokens.AccessToken.for_user(user)) for user in (ann, bob))
        assert services.find(verification.pk, user=me) == verification
        with pytest.raises(VerificationNotFound):
            services.find(verification.pk, user=other)
        with pytest.raises(VerificationNotFound):
            services.find_and_check(verification.pk, outbox[-1].code, user=other)
        _found, token = services.find_and_check(verification.pk, outbox[-1].code, user=me)
        assert services.redeem(token, purpose="change", user=me).owner == ann
        assert services.phone_of(me) == verification.phone
        assert services.start("+79161234568", purpose="change", user=me).user == ann
        services.remove_phone(me)
        assert services.phone_of(ann) is None
        verification = services.start("+79161234569", purpose="change", session="hers")
        token = services.check(verification, outbox[-1].code)
        ann.delete()
        assert not services.has_verified_phone(me)
        with pytest.raises(InvalidToken):
            services.redeem(token, purpose="change", user=me, session="hers")
        assert Verification.objects.get(pk=verification.pk).state == "verified"

    def test_a_key_of_another_type(self, outbox, configure):
        """As an account has it that was not loaded, but made for a key in a header."""
        configure(COOLDOWN=0)
        ann = get_user_model().objects.create_user("ann")
        stateless = get_user_model()(pk=str(ann.pk))
        for _ in range(2):  # the second time as the owner
            verification = services.start(NUMBER, purpose="change", user=stateless)
            assert services.find(verification.pk, user=ann) == verification
            code = outbox[-1].code
            found, token = services.find_and_check(verification.pk, code, user=stateless)
            phone = services.redeem(token, purpose="change", user=stateless)
            assert phone.owner_id in (ann.pk, str(ann.pk))
        assert found.is_known
        assert services.phone_of(ann) == phone
        with pytest.raises(VerificationNotFound):
            services.find(verification.pk, user=get_user_model().objects.create_user("bob"))
        for stranger in (None, AnonymousUser(), get_user_model()()):
            assert not verification.belongs_to(stranger, "")


def deleted(name):
    user = get_user_model().objects.create_user(name)
    user.delete()
    return user
