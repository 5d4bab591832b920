"""The whole way to the provider and back over HTTP: what each of its answers means to a person."""

import json

import pytest

from django_flashcall.models import Call, Verification
from django_flashcall.simulator import ERRORS

from .fixtures import PROVIDER_PASSWORD

pytestmark = pytest.mark.django_db

START = "/api/verifications/"


def number(ending):
    return f"+7916123{ending:04d}"


def start(api, ending, **data):
    return api.post(START, {"phone": number(ending), **data}, format="json")


def test_the_request_is_the_specifications(api, provider):
    assert start(api, 4567).status_code == 201
    (request,) = provider.requests
    assert request.method == "POST"
    assert request.headers["Content-Type"].startswith("application/json")
    call = Call.objects.get()
    assert request.json == {
        "login": "site",
        "password": PROVIDER_PASSWORD,
        "destAddr": "79161234567",
        "message": {
            "type": "FLASHINGCALL",
            "data": {"text": provider.calls[0].code, "ttl": 1},
        },
        "id": call.reference.hex,
    }
    assert call.provider_id == provider.calls[0].mt_num


def test_the_whole_way(api, provider):
    verification = start(api, 4567).json()
    calling = provider.last_call(number(4567)).calling_number
    response = api.post(
        f"{START}{verification['id']}/check/", {"code": calling[-4:]}, format="json"
    )
    assert response.status_code == 200


def test_a_voice_code(api, provider):
    verification = start(api, 4567, channel="voice_code").json()
    assert verification["channel"] == "voice_code"
    call = provider.last_call(number(4567))
    assert call.voice
    assert " ".join(call.code) in call.spoken
    response = api.post(f"{START}{verification['id']}/check/", {"code": call.code}, format="json")
    assert response.status_code == 200


def test_six_digits(api, provider, configure):
    configure(CODE_LENGTH=6)
    verification = start(api, 4567).json()
    assert verification["code_length"] == len(provider.last_call(number(4567)).code) == 6
    assert verification["channels"] == ["flash_call"]


ANSWERS = {
    1: (503, "provider_unavailable", "rejected"),
    2: (503, "provider_unavailable", "rejected"),
    3: (503, "provider_unavailable", "rejected"),
    4: (503, "provider_unavailable", "rejected"),
    5: (503, "provider_unavailable", "rejected"),
    6: (503, "provider_unavailable", "rejected"),
    7: (503, "provider_unavailable", "rejected"),
    8: (400, "invalid_destination", "rejected"),
    9: (503, "provider_unavailable", "rejected"),
    10: (429, "duplicate_call", "rejected"),
    11: (503, "provider_unavailable", "rejected"),
    100: (503, "provider_unavailable", "unknown"),
}


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_each_error_code(api, provider, code):
    status, word, call_status = ANSWERS[code]
    response = start(api, 9900 + code % 100)
    assert response.status_code == status
    body = response.json()
    assert body["error_code"] == word
    assert ("phone" if status == 400 else "non_field_errors") in body
    if status != 400:
        assert response["Retry-After"] == str(body["retry_after"])
    description = ERRORS[code][0]
    if not description.isdigit():
        assert description not in response.content.decode()
    call = Call.objects.get()
    assert (call.status, call.provider_code) == (call_status, code)
    assert description in call.provider_message
    assert len(provider.requests) == (3 if code in (1, 3) else 1)
    assert len({json.dumps(request.json) for request in provider.requests}) == 1
    # What was certainly not placed is given back; what may have been keeps its place.
    again = start(api, 9900 + code % 100)
    assert (again.json()["error_code"] == "cooldown") == (call_status == "unknown")


@pytest.mark.parametrize(
    "ending", [9920, 9921, 9922, 9923, 9925, 9926, 9931, 9932, 9933, 9934, 9935]
)
def test_after_an_unknown_outcome_the_right_code_verifies(api, provider, ending):
    response = start(api, ending)
    assert response.status_code == 201
    verification = response.json()
    assert verification["call"] == {"status": "unknown", "error_code": None}
    assert len(provider.requests) == 1
    code = provider.last_call(number(ending)).code
    response = api.post(f"{START}{verification['id']}/check/", {"code": code}, format="json")
    assert response.status_code == 200


@pytest.mark.parametrize("ending", [9924, 9927])
def test_any_other_status_is_an_error_of_a_call_that_may_have_been_placed(api, provider, ending):
    response = start(api, ending)
    assert response.status_code == 503
    assert response.json()["error_code"] == "provider_unavailable"
    assert Call.objects.get().status == "unknown"
    assert Verification.objects.get().status == "pending"
    assert len(provider.requests) == 1  # no redirect is followed, nothing is asked twice
    assert start(api, ending).json()["error_code"] == "cooldown"


def test_an_error_object_with_status_200_is_that_error(api, provider):
    assert start(api, 9928).json()["error_code"] == "invalid_destination"


@pytest.mark.parametrize("ending", [9929, 9930, 9941, 9943])
def test_success_in_unusual_clothes(api, provider, ending):
    response = start(api, ending)
    assert response.status_code == 201
    assert response.json()["call"]["status"] == "sent"
    assert len(provider.calls) == 1


def test_a_provider_that_is_gone(api, provider, configure, settings, unused_tcp_port):
    options = settings.FLASHCALL["BACKENDS"]["default"]["OPTIONS"]
    backend = {
        **settings.FLASHCALL["BACKENDS"]["default"],
        "OPTIONS": {**options, "url": f"http://127.0.0.1:{unused_tcp_port}/"},
    }
    configure(BACKENDS={**settings.FLASHCALL["BACKENDS"], "default": backend})
    response = start(api, 4567)
    assert response.status_code == 503
    assert Call.objects.get().status == "rejected"
