"""The address for delivery reports, over HTTP and with the simulator as the provider."""

import json
import logging

import pytest
from django.test import Client
from django.urls import reverse

from django_flashcall import services
from django_flashcall.models import Call, DeliveryReport
from django_flashcall.webhooks import MAX_BODY_BYTES

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
SECRET = "s" * 32
NEW_SECRET = "n" * 40


def path(secret=SECRET, alias="default"):
    return reverse("django_flashcall:delivery-report", kwargs={"alias": alias, "secret": secret})


@pytest.fixture(autouse=True)
def site(provider, configure):
    configure(DELIVERY_REPORT_SECRETS=[SECRET, NEW_SECRET])


@pytest.fixture
def call(provider):
    return services.start(NUMBER).newest_call


@pytest.fixture
def post(client):
    def post(content, to=None, **kwargs):
        kwargs.setdefault("content_type", "application/json")
        return client.post(to or path(), content, **kwargs).status_code

    return post


def body(call, **values):
    return {
        "id": call.reference.hex,
        "mtNum": call.provider_id,
        "status": 2,
        "type": "FLASHINGCALL",
        "doneDate": "2026-05-05T10:20:35+0300",
        "submitDate": "2026-05-05T10:19:55+0300",
        "destAddr": "79161234567",
        "text": "1234",
        "errorCode": "0",
        "mccMnc": "25012",
        **values,
    }


def test_a_delivered_call(call, post):
    assert post(body(call, messagePrice="0.35")) == 200
    call.refresh_from_db()
    assert (call.status, call.error_code, call.mcc_mnc) == ("delivered", "", "25012")
    (row,) = DeliveryReport.objects.all()
    assert row.done_at.isoformat() == "2026-05-05T07:20:35+00:00"
    assert row.submitted_at.isoformat() == "2026-05-05T07:19:55+00:00"
    assert str(row.price) == "0.3500"


def test_a_call_that_was_free(call, post):
    assert post(body(call, messagePrice="0", segmentPrice="1.25")) == 200
    assert DeliveryReport.objects.get().price == 0


def test_a_site_without_time_zones(call, post, settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Moscow"
    assert post(body(call)) == 200
    assert DeliveryReport.objects.get().done_at.isoformat() == "2026-05-05T10:20:35"


@pytest.mark.parametrize("offset", ["+1559", "+1600", "-2359"])
def test_an_offset_that_no_place_has(call, post, offset):
    assert post(body(call, doneDate=f"2026-05-05T10:20:35{offset}")) == 200
    assert Call.objects.get().reports.get().done_at.month == 5


def test_a_provider_does_not_log_in(call, post, settings):
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, required]
    assert post(body(call)) == 200


@pytest.mark.parametrize(
    ("number", "word"),
    [
        ("1", "unknown"),
        ("2", "absent_subscriber"),
        ("4", "failure"),
        ("6", "not_provisioned"),
        ("16", "busy"),
        ("013", "unknown"),
        (None, "unknown"),
        (True, "unknown"),
    ],
)
def test_reasons(call, post, api, number, word):
    assert post(body(call, status="5", errorCode=number, doneDate="")) == 200
    answer = api.get(f"/api/verifications/{call.verification_id}/").json()
    assert answer["call"] == {"status": "undelivered", "error_code": word}
    expected = int(number) if isinstance(number, str) else None
    assert Call.objects.get().provider_code == expected


@pytest.mark.parametrize("outcome", [(2, 0), (5, 16)])
def test_the_simulators_reports_over_http(live_server, provider, configure, settings, outcome):
    """`notify_url` goes out with the call, and the reports come back to it."""
    backends = settings.FLASHCALL["BACKENDS"]
    options = {**backends["default"]["OPTIONS"], "notify_url": live_server.url + path()}
    configure(BACKENDS={**backends, "default": {**backends["default"], "OPTIONS": options}})
    call = services.start(NUMBER).newest_call
    placed = provider.last_call(NUMBER)
    status, reason = outcome
    for one in ((status, reason), (0, 0), (status, reason)):
        assert provider.report(placed, *one) == 200
    call.refresh_from_db()
    assert call.status == ("delivered" if status == 2 else "undelivered")
    assert call.reports.count() == 2


@pytest.mark.parametrize("secret", [SECRET, NEW_SECRET])
def test_two_secrets_live_at_once(call, post, secret):
    assert post(body(call), path(secret)) == 200
    assert DeliveryReport.objects.count() == 1


@pytest.mark.parametrize(
    ("secret", "alias"), [("x" * 32, "default"), (SECRET[:-1], "default"), (SECRET, "nobody")]
)
def test_wrong_secret_or_alias(call, post, secret, alias):
    assert post(body(call), path(secret, alias)) == 404
    assert not DeliveryReport.objects.exists()


@pytest.mark.parametrize("debug", [False, True])
def test_without_the_slash_at_the_end(call, post, caplog, settings, debug):
    """Django would answer with a redirect or an error, and log the secret."""
    settings.DEBUG = debug
    assert post(body(call), path().rstrip("/")) == 200
    assert DeliveryReport.objects.count() == 1
    for wrong in (f"{path()}x", f"{path()}/", path("x" * 32).rstrip("/")):
        assert post(body(call), wrong) == 404
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert SECRET not in logged


def test_without_secrets_it_is_closed(call, post, configure):
    configure(DELIVERY_REPORT_SECRETS=[])
    assert post(body(call)) == 404


def test_foreign_networks(call, post, configure):
    configure(DELIVERY_REPORT_NETWORKS=["203.0.113.0/24", "2001:db8::/32"])
    assert post(body(call)) == 403
    assert post(body(call), REMOTE_ADDR="203.0.113.7") == 200
    assert post(body(call), REMOTE_ADDR="2001:db8::7") == 200


def test_only_post(client):
    for method in ("get", "put", "delete", "options", "head"):
        answer = getattr(client, method)(path())
        assert (answer.status_code, answer["Allow"]) == (405, "POST")


def test_a_backend_without_reports(call, post, configure):
    configure(BACKENDS={"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}})
    assert post(body(call)) == 405


def test_no_csrf_token_is_asked_for(call):
    client = Client(enforce_csrf_checks=True)
    assert client.post(path(), body(call), content_type="application/json").status_code == 200


IGNORED = [{"type": "SMS"}, {"status": 7}, {"status": 999}, {"id": "0" * 32, "mtNum": "1"}]


@pytest.mark.parametrize("changes", IGNORED, ids=str)
def test_well_formed_but_not_for_us(call, post, changes):
    assert post(body(call, **changes)) == 200
    assert not DeliveryReport.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"mccMnc": "x" * 100, "submitDate": "0001-01-01T00:00:00+1400", "doneDate": "yesterday"},
        {"mccMnc": ["25012"], "submitDate": 12, "doneDate": None, "errorCode": {}},
        {"messagePrice": "NaN", "segmentPrice": True},
        {"messagePrice": 1e300, "segmentPrice": "-1"},
        {"messagePrice": "9" * 19},
        {"messagePrice": "-0.00001"},
        {"messagePrice": "99999999.99995"},  # too large once it is rounded
        {"submitDate": "2026-05-05T10:19:55", "doneDate": "2026-13-05T10:19:55+0300"},
        {"text": "\x00", "sourceAddr": "\x00"},
        {"id": "не наш"},
        {"mtNum": None},
    ],
    ids=str,
)
def test_what_is_optional_may_be_senseless(call, post, changes):
    assert post(body(call, **changes)) == 200
    row = DeliveryReport.objects.get()
    assert row.price is None
    assert row.mcc_mnc in ("", "25012")


MALFORMED = [
    b"",
    b"null",
    b"[]",
    b'"1"',
    b"{",
    b"\xff\xfe",
    b"\x00",
    b"[" * 60000,
    b'{"a":' * 10000,
    b'{"mtNum": "1", "status": ' + b"9" * 50000 + b"}",
    json.dumps({"status": 2}).encode(),
    json.dumps({"mtNum": "1"}).encode(),
    json.dumps({"mtNum": "1", "status": None}).encode(),
    json.dumps({"mtNum": "1", "status": True}).encode(),
    json.dumps({"mtNum": "1", "status": 2.0}).encode(),
    json.dumps({"mtNum": "1", "status": 1000}).encode(),
    json.dumps({"mtNum": "1", "status": -1}).encode(),
    json.dumps({"mtNum": "", "id": "", "status": 2}).encode(),
    json.dumps({"mtNum": "1" * 65, "status": 2}).encode(),
    json.dumps({"mtNum": "1\x00", "status": 2}).encode(),
    json.dumps({"mtNum": ["1"], "status": 2}).encode(),
    json.dumps({"mtNum": True, "status": 2}).encode(),
]


@pytest.mark.parametrize("content", MALFORMED, ids=lambda content: repr(content[:40]))
def test_malformed(call, post, content, caplog):
    assert post(content) == 400
    assert not DeliveryReport.objects.exists()
    assert caplog.messages == ["A delivery report for backend 'default' could not be read."]


def test_too_large(post):
    assert post(b" " * (MAX_BODY_BYTES + 1)) == 413
    assert post(b" " * 20_000_000) == 413


def test_a_form_is_no_report(client):
    assert client.post(path(), {"mtNum": "1", "status": "2"}).status_code == 400


def test_neither_secret_nor_code_is_logged_or_stored(call, post, caplog, settings):
    caplog.set_level(logging.DEBUG, logger="")
    settings.DEBUG = True
    code = "718293"
    for changes in ({}, {"status": None}, {"id": "", "mtNum": "4711"}):
        post(body(call, text=code, **changes))
    post(body(call), path("x" * 32))
    post(b" " * (MAX_BODY_BYTES + 1))
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert SECRET not in logged
    assert "x" * 32 not in logged
    assert code not in logged
    assert code not in str(list(DeliveryReport.objects.values()))


def test_a_database_that_is_gone(call, client, caplog, monkeypatch):
    """The provider is asked to come again, and nothing secret is logged."""
    from django.db import connection

    def gone(*args, **kwargs):
        from django.db import OperationalError

        raise OperationalError("server closed the connection")

    with connection.execute_wrapper(gone):
        answer = client.post(path(), body(call), content_type="application/json")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "OperationalError" in logged
    assert SECRET not in logged
