"""The JSON API, through HTTP: every row of the contract's table."""

import json
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone, translation
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient, APIRequestFactory

from django_flashcall import services
from django_flashcall.exceptions import Misconfigured, NumberRejected
from django_flashcall.models import Call, Phone, Verification
from django_flashcall.rest_framework.permissions import HasVerifiedPhone
from django_flashcall.rest_framework.serializers import StartSerializer

from .test_services import ScriptedBackend, backend, wrong  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
START = "/api/verifications/"


def post(api, path, data=None, **extra):
    return api.post(path, {} if data is None else data, format="json", **extra)


def start(api, phone=NUMBER, **data):
    response = post(api, START, {"phone": phone, **data})
    assert response.status_code == 201, response.json()
    return response.json()


def url(verification, action=""):
    return f"{START}{verification['id']}/{action}"


def error(response):
    """What every error answer has: status, shape and word."""
    body = response.json()
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    if response.status_code in (429, 503):
        assert response["Retry-After"] == str(body["retry_after"])
        assert body["retry_after"] >= 1
    return body


def test_the_whole_way(api, outbox):
    response = post(api, START, {"phone": "8 (916) 123-45-67"})
    assert response.status_code == 201
    verification = response.json()
    assert set(verification) == {
        *("id", "phone", "channel", "channels", "purpose", "status", "code_length"),
        *("attempts_left", "calls_left", "expires_at", "resend_at", "call"),
    }
    assert verification["phone"] == NUMBER
    assert verification["channel"] == "flash_call"
    assert verification["channels"] == ["flash_call"]
    assert verification["purpose"] == "signup"
    assert verification["status"] == "pending"
    assert verification["call"] == {"status": "sent", "error_code": None}

    seen = api.get(url(verification)).json()
    assert seen == {**verification, "phone": "+7******4567"}

    response = post(api, url(verification, "check/"), {"code": wrong(outbox[0].code)})
    assert response.status_code == 400
    body = error(response)
    assert body == {
        "code": ["Wrong code. 2 attempts left."],
        "error_code": "wrong_code",
        "attempts_left": 2,
    }

    response = post(api, url(verification, "check/"), {"code": outbox[0].code})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert (body["status"], body["phone"]) == ("verified", "+7******4567")

    account = {"username": "ann", "email": "ann@example.com", "password": "correct horse 9"}
    response = post(api, "/api/signup/", {**account, "phone_token": body["token"]})
    assert response.status_code == 201
    user = get_user_model().objects.get()
    assert response.json() == {"id": user.pk, "username": "ann", "phone": NUMBER}
    assert user.check_password("correct horse 9")
    assert Phone.objects.get().owner == user
    assert api.get(url(verification)).json()["status"] == "redeemed"


@pytest.mark.parametrize(
    ("data", "field", "word"),
    [
        ({}, "phone", "invalid"),
        ({"phone": None}, "phone", "invalid"),
        ({"phone": []}, "phone", "invalid"),
        ({"phone": {"a": 1}}, "phone", "invalid"),
        ({"phone": True}, "phone", "invalid"),
        ({"phone": 1.5}, "phone", "invalid"),
        ({"phone": ""}, "phone", "invalid_phone"),
        ({"phone": "123"}, "phone", "invalid_phone"),
        ({"phone": "+7916\x001234567"}, "phone", "invalid_phone"),
        ({"phone": "+79161234567 ext 5"}, "phone", "invalid_phone"),
        ({"phone": "9" * 60_000}, "phone", "invalid_phone"),
        ({"phone": "72101234567"}, "phone", "phone_not_allowed"),
        ({"phone": "+447400123456"}, "phone", "phone_not_allowed"),
        ({"phone": NUMBER, "channel": "sms"}, "channel", "invalid"),
        ({"phone": NUMBER, "channel": "voice_code"}, "channel", "invalid"),
        ({"phone": NUMBER, "channel": 7}, "channel", "invalid"),
        ({"phone": NUMBER, "channel": ["flash_call"]}, "channel", "invalid"),
        ({"phone": NUMBER, "purpose": "nothing"}, "purpose", "invalid"),
        ({"phone": NUMBER, "purpose": ""}, "purpose", "invalid"),
    ],
)
def test_a_refused_start(api, outbox, data, field, word):
    response = post(api, START, data)
    assert response.status_code == 400
    body = error(response)
    assert body["error_code"] == word
    assert isinstance(body[field], list)
    assert all(isinstance(message, str) for message in body[field])
    assert not outbox


def test_numbers_without_quotes_are_understood(api, outbox):
    assert start(api, 89161234567)["phone"] == NUMBER


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "invalid"),
        (b"{", "parse_error"),
        (b'{"phone": NaN}', "parse_error"),
        (b"\xff\xfe", "parse_error"),
        (b"[" * 60_000, "parse_error"),
        (b'{"phone": ' + b"1" * 5000 + b"}", "parse_error"),
        (b"[1]", "invalid"),
        (b'"text"', "invalid"),
        (b"null", "invalid"),
    ],
)
def test_a_body_that_is_no_json_object(api, outbox, body, word):
    response = api.post(START, body, content_type="application/json")
    assert response.status_code == 400
    assert error(response)["error_code"] == word


def test_a_body_of_any_size_is_not_read(api):
    body = json.dumps({"phone": NUMBER, "padding": "x" * 70_000})
    response = api.post(START, body, content_type="application/json; charset=utf-7")
    assert response.status_code == 413
    assert error(response)["error_code"] == "too_large"


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"],
)
def test_no_form_of_a_foreign_page_places_calls(api, outbox, content_type):
    response = api.post(START, f'{{"phone": "{NUMBER}"}}', content_type=content_type)
    assert response.status_code == 415
    assert error(response)["error_code"] == "unsupported_media_type"
    assert not outbox


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_no_form_of_a_foreign_page_resends(api, outbox, configure, content_type):
    """DRF does not look at the type of an empty body."""
    configure(COOLDOWN=0)
    path = f"{START}{services.start(NUMBER).pk}/resend/"
    response = api.generic("POST", path, "", content_type=content_type)
    assert response.status_code == 415
    assert error(response)["error_code"] == "unsupported_media_type"
    assert len(outbox) == 1
    assert api.generic("POST", path, "", content_type="application/json").status_code == 200
    assert len(outbox) == 2


def test_other_methods(api, outbox):
    response = api.get(START)
    assert response.status_code == 405
    assert error(response)["error_code"] == "method_not_allowed"


def test_a_cooldown(api, outbox):
    start(api)
    response = post(api, START, {"phone": NUMBER})
    assert response.status_code == 429
    body = error(response)
    assert body["error_code"] == "cooldown"
    assert body["non_field_errors"]
    assert 1 <= body["retry_after"] <= 60


@pytest.mark.parametrize(
    ("answer", "status", "field", "word"),
    [
        (NumberRejected("destAddr is not correct", code=8), 400, "phone", "invalid_destination"),
        (
            Misconfigured("Invalid password", code=6),
            503,
            "non_field_errors",
            "provider_unavailable",
        ),
    ],
)
def test_errors_of_the_provider(api, backend, answer, status, field, word):  # noqa: F811
    backend.answers = [answer]
    response = post(api, START, {"phone": NUMBER})
    assert response.status_code == status
    body = error(response)
    assert body["error_code"] == word
    assert field in body
    assert answer.description not in response.content.decode()


def test_errors_of_the_provider_are_validation_errors_of_save(rf, backend):  # noqa: F811
    from rest_framework.exceptions import ValidationError
    from rest_framework.request import Request

    backend.answers = [NumberRejected(code=8)]
    request = Request(APIRequestFactory().post("/"))
    serializer = StartSerializer(data={"phone": NUMBER}, context={"request": request})
    assert serializer.is_valid()
    with pytest.raises(ValidationError) as caught:
        serializer.save()
    assert caught.value.detail["phone"][0].code == "invalid_destination"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("code", [None, [], {}, True, 1.5])
def test_a_malformed_code(api, outbox, code):
    verification = start(api)
    body = error(post(api, url(verification, "check/"), {"code": code}))
    assert body["error_code"] == "invalid"
    assert "code" in body
    assert Verification.objects.get().attempts_left == 3


@pytest.mark.parametrize("code", ["", "12", "123456", "12x4"])
def test_what_has_not_the_length_of_a_code(api, outbox, code):
    verification = start(api)
    response = post(api, url(verification, "check/"), {"code": code})
    assert response.status_code == 400
    assert error(response) == {"code": ["Enter the 4-digit code."], "error_code": "invalid"}
    assert Verification.objects.get().attempts_left == 3


def test_no_attempts_left(api, outbox):
    verification = start(api)
    for left in (2, 1, 0):
        response = post(api, url(verification, "check/"), {"code": wrong(outbox[0].code)})
        assert response.status_code == 400
        assert error(response)["attempts_left"] == left
    response = post(api, url(verification, "check/"), {"code": outbox[0].code})
    assert response.status_code == 429
    body = error(response)
    assert body["error_code"] == "too_many_attempts"
    assert body["code"]
    assert body["attempts_left"] == 0
    assert api.get(url(verification)).json()["status"] == "failed"
    response = post(api, url(verification, "resend/"))
    assert response.status_code == 429
    assert error(response)["error_code"] == "too_many_attempts"


def test_verified_cancelled_and_expired(api, outbox, configure, time_machine):
    configure(COOLDOWN=0)
    verified, cancelled, expired = start(api), start(api), start(api)
    assert post(api, url(verified, "check/"), {"code": outbox[0].code}).status_code == 200
    assert api.delete(url(cancelled)).status_code == 204
    assert api.delete(url(cancelled)).status_code == 204
    assert api.delete(url(verified)).status_code == 204
    time_machine.move_to(timezone.now() + timedelta(seconds=301))
    for verification, word in [
        (verified, "already_verified"),
        (cancelled, "cancelled"),
        (expired, "expired"),
    ]:
        response = post(api, url(verification, "check/"), {"code": "0000"})
        assert response.status_code == 400
        body = error(response)
        assert body["error_code"] == word
        assert body["code"]
        response = post(api, url(verification, "resend/"))
        assert response.status_code == 400
        body = error(response)
        assert body["error_code"] == word
        assert body["non_field_errors"]
    assert api.get(url(expired)).json()["status"] == "expired"
    assert api.get(url(cancelled)).json()["status"] == "cancelled"
    assert api.get(url(verified)).json()["status"] == "verified"


def test_how_soon_to_ask_again(api, outbox, time_machine):
    """Less and less often, and not at all when nothing can change."""
    time_machine.move_to("2026-03-02 12:00:00+00:00", tick=False)
    verification = start(api)
    path = url(verification)
    waits = []
    for seconds in (0, 3, 9, 40, 120):
        time_machine.move_to(timezone.now() + timedelta(seconds=seconds), tick=False)
        waits.append(api.get(path)["Retry-After"])
    assert waits == ["1", "1", "3", "13", "30"]
    time_machine.move_to("2026-03-02 11:00:00+00:00", tick=False)  # the clock was set back
    assert api.get(path)["Retry-After"] == "1"
    post(api, url(verification, "check/"), {"code": outbox[0].code})
    assert "Retry-After" not in api.get(path)


def test_resend(api, outbox, configure):
    configure(COOLDOWN=0)
    verification = start(api)
    for left in (1, 0):
        response = post(api, url(verification, "resend/"))
        assert response.status_code == 200
        body = response.json()
        assert (body["calls_left"], body["phone"]) == (left, "+7******4567")
        assert body["expires_at"] == verification["expires_at"]
    assert body["resend_at"] is None
    response = post(api, url(verification, "resend/"))
    assert response.status_code == 429
    assert error(response)["error_code"] == "too_many_calls"
    response = post(api, url(verification, "resend/"), {"channel": "sms"})
    assert error(response)["error_code"] == "invalid"
    assert len(outbox) == 3


@pytest.mark.parametrize("action", ["", "check/", "resend/"])
def test_an_unknown_verification(api, action):
    path = f"{START}{uuid.uuid4()}/{action}"
    response = api.get(path) if not action else post(api, path, {"code": "1234"})
    assert response.status_code == 404
    assert error(response) == {
        "detail": "Verification not found.",
        "error_code": "not_found",
    }
    assert api.delete(f"{START}{uuid.uuid4()}/").status_code == 404


def client_of(user, way):
    client = APIClient(enforce_csrf_checks=way == "session")
    if way == "token":
        client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=user).key}")
        return client
    client.force_login(user)
    token = "x" * 32
    client.cookies["csrftoken"] = token
    client.credentials(HTTP_X_CSRFTOKEN=token)
    return client


@pytest.mark.parametrize("way", ["session", "token"])
def test_what_a_user_started_only_this_user_sees(api, outbox, configure, way):
    configure(COOLDOWN=0)
    create = get_user_model().objects.create_user
    anns, bobs = (client_of(create(username=name), way) for name in ("ann", "bob"))
    verification = start(anns)
    assert anns.get(url(verification)).status_code == 200
    for stranger in (bobs, api):
        assert stranger.get(url(verification)).status_code == 404
        assert stranger.delete(url(verification)).status_code == 404
        assert post(stranger, url(verification, "resend/")).status_code == 404
        response = post(stranger, url(verification, "check/"), {"code": outbox[0].code})
        assert response.status_code == 404
    token = post(anns, url(verification, "check/"), {"code": outbox[0].code}).json()["token"]
    account = {"username": "eve", "email": "e@example.com", "password": "correct horse 9"}
    for stranger in (bobs, api):
        response = post(stranger, "/api/signup/", {**account, "phone_token": token})
        assert response.status_code == 400
        assert error(response)["error_code"] == "invalid_token"
    response = post(anns, "/api/signup/", {**account, "phone_token": token})
    assert response.status_code == 201


def test_a_session_without_its_csrf_token_is_refused(outbox):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(get_user_model().objects.create_user(username="ann"))
    response = post(client, START, {"phone": NUMBER})
    assert response.status_code == 403
    assert error(response)["error_code"] == "permission_denied"
    assert not outbox


def test_a_bad_token_of_the_site(api):
    api.credentials(HTTP_AUTHORIZATION="Token nonsense")
    response = post(api, START, {"phone": NUMBER})
    assert response.status_code in (401, 403)
    assert error(response)["error_code"] == "authentication_failed"


def test_what_the_pages_started_belongs_to_their_session(api, outbox):
    from django_flashcall import services

    verification = services.start(NUMBER, session="value")
    path = f"{START}{verification.pk}/"
    assert api.get(path).status_code == 404
    session = api.session
    session["django_flashcall"] = "value"
    session.save()
    assert api.get(path).status_code == 200


def test_messages_are_translated_and_error_codes_are_not(api, outbox):
    with translation.override("ru"):
        response = post(api, START, {"phone": "1"}, HTTP_ACCEPT_LANGUAGE="ru")
    body = error(response)
    assert body["error_code"] == "invalid_phone"


def test_the_sites_own_throttles_apply(api, outbox, monkeypatch):
    from rest_framework.throttling import AnonRateThrottle

    from django_flashcall.rest_framework.views import FlashcallView

    class Once(AnonRateThrottle):
        THROTTLE_RATES = {"anon": "1/day"}
        cache_format = "test-%(scope)s-%(ident)s"

    monkeypatch.setattr(FlashcallView, "throttle_classes", [Once])
    from django.core.cache import cache

    cache.clear()
    start(api)
    response = post(api, START, {"phone": "+79161234568"})
    assert response.status_code == 429
    assert response.json()["error_code"] == "throttled"
    assert int(response["Retry-After"]) > 0


def test_an_unknown_outcome_answers_as_success(api, backend):  # noqa: F811
    from django_flashcall.exceptions import UnknownOutcome

    backend.answers = [UnknownOutcome("no answer in time")]
    verification = start(api)
    assert verification["call"] == {"status": "unknown", "error_code": None}
    code = backend.requests[0].code
    assert post(api, url(verification, "check/"), {"code": code}).status_code == 200


def test_the_permission_for_verified_phones(outbox):
    from django_flashcall import services

    user = get_user_model().objects.create_user(username="ann")
    request = APIRequestFactory().get("/")
    request.user = user
    assert not HasVerifiedPhone().has_permission(request, None)
    verification = services.start(NUMBER)
    services.redeem(services.check(verification, outbox[0].code), user=user)
    assert HasVerifiedPhone().has_permission(request, None)


def test_the_identifier_on_the_wire_is_another(api, outbox):
    verification = start(api)
    assert uuid.UUID(verification["id"]) != Call.objects.get().reference
    assert outbox[0].reference == Call.objects.get().reference.hex
