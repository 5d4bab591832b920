"""Metrics that the front door causes, the SDK of OpenTelemetry reads and Prometheus scrapes."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import Counter as SumOfAll
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from django_flashcall import services, signals, tasks
from django_flashcall.contrib.opentelemetry import instruments, receivers
from django_flashcall.exceptions import (
    FlashcallError,
    ProviderError,
    TemporaryFailure,
)
from django_flashcall.models import Call, CircuitBreaker, DeliveryReport, Refusal, Verification
from django_flashcall.simulator import Answer

from . import documents
from .test_in_flight import StuckBackend, waiting  # noqa: F401

sys.path.insert(0, str(documents.DOCS / "_ext"))
import flashcall_reference as reference

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
BLOCKED, IN_FLIGHT = instruments.BLOCKED.name, instruments.IN_FLIGHT.name
OUTCOME, PAUSED = instruments.OUTCOME.key, instruments.PAUSED.name
HOW_TO = documents.DOCS / "how-to" / "monitoring.md"
DASHBOARD = documents.DOCS / "how-to" / "grafana.json"
KEYS = {attribute.key for metric in instruments.METRICS for attribute in metric.attributes}
WATCHDOG = 60


class Measured:
    """What the metrics of the app have added since the last look."""

    def __init__(self, reader):
        self.reader = reader

    def points(self):
        """Return the points by metric; each is its attributes and its value."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: [(dict(p.attributes), p) for p in metric.data.data_points]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            if scope.scope.name == "django_flashcall"
            for metric in scope.metrics
        }

    def look(self):
        """Return the values by metric and by the values of the attributes, without zeros."""
        return {
            name: found
            for name, points in self.points().items()
            if (
                found := {
                    tuple(attributes[key] for key in sorted(attributes)): value
                    for attributes, point in points
                    if (value := getattr(point, "count", getattr(point, "value", 0)))
                }
            )
        }


@pytest.fixture(scope="session")
def provider_of_metrics():
    """The SDK with two readers, for the whole process: it can be set only once."""
    delta = {SumOfAll: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    reader, registry = InMemoryMetricReader(preferred_temporality=delta), CollectorRegistry()
    prometheus = PrometheusMetricReader(registry=registry)
    metrics.set_meter_provider(MeterProvider([reader, prometheus]))
    return SimpleNamespace(reader=reader, registry=registry)


@pytest.fixture
def measured(provider_of_metrics):
    measured = Measured(provider_of_metrics.reader)
    measured.look()
    return measured


def scrape(provider_of_metrics):
    """Return what Prometheus gets."""
    server, thread = start_http_server(0, "127.0.0.1", provider_of_metrics.registry)
    try:
        answer = requests.get(f"http://127.0.0.1:{server.server_port}/metrics", timeout=WATCHDOG)
        assert answer.status_code == 200
        return answer.text
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def post(api, path, **data):
    return api.post(f"/api/{path}", data, format="json").json()


def start(api, number=NUMBER, **data):
    return post(api, "verifications/", phone=number, **data)


class TestFrontDoor:
    def test_from_start_to_signup(self, api, provider, measured):
        started = start(api)
        code = provider.last_call(NUMBER).code
        token = post(api, f"verifications/{started['id']}/check/", code=code)["token"]
        assert measured.look() == {
            "flashcall.calls": {("default", "sent", "flash_call"): 1},
            "flashcall.provider.request.duration": {("default", "sent", "flash_call"): 1},
            "flashcall.verification.started": {("signup",): 1},
            "flashcall.verification.verified": {("signup",): 1},
        }
        account = {"username": "ann", "email": "", "password": "correct horse 9"}
        assert post(api, "signup/", phone_token=token, **account)["phone"] == NUMBER

    @pytest.mark.django_db(transaction=True)
    def test_redeemed(self, api, provider, measured):
        """Counted after the commit, and not if there is none."""
        started = start(api)
        code = provider.last_call(NUMBER).code
        token = post(api, f"verifications/{started['id']}/check/", code=code)["token"]
        measured.look()
        account = {"email": "", "password": "correct horse 9"}
        User.objects.create_user("ann")
        assert "username" in post(api, "signup/", phone_token=token, username="ann", **account)
        assert measured.look() == {}
        post(api, "signup/", phone_token=token, username="bob", **account)
        assert measured.look() == {"flashcall.verification.redeemed": {("signup",): 1}}

    def test_a_resend_by_voice_and_a_blocked_start(self, api, provider, measured, configure):
        started = start(api)
        configure(COOLDOWN=0)
        post(api, f"verifications/{started['id']}/resend/", channel="voice_code")
        configure(COOLDOWN=60)
        assert start(api)["error_code"] == "cooldown"
        found = measured.look()
        assert found["flashcall.calls"] == {
            ("default", "sent", "flash_call"): 1,
            ("voice", "sent", "voice_code"): 1,
        }
        assert found["flashcall.verification.started"] == {("signup",): 1}
        assert found["flashcall.request.blocked"] == {("cooldown", "number"): 1}

    @pytest.mark.parametrize(
        ("answer", "outcome", "error"),
        [
            (Answer.error(8), "rejected", "number_rejected"),
            (Answer.error(10), "rejected", "duplicate_rejected"),
            (Answer.error(6), "rejected", "misconfigured"),
            (Answer.error(100), "unknown", "temporary_failure"),
            (Answer(body=b"<html>"), "unknown", "unknown_outcome"),
        ],
        ids=["number", "duplicate", "password", "temporary", "garbage"],
    )
    def test_errors_of_the_provider(self, answer, outcome, error, api, provider, measured):
        provider.script(answer)
        start(api)
        attributes = (error, "default", outcome, "flash_call")
        found = measured.look()
        assert found["flashcall.calls"] == {attributes: 1}
        assert found["flashcall.provider.request.duration"] == {attributes: 1}
        assert found["flashcall.verification.started"] == {("signup",): 1}

    @pytest.mark.django_db(transaction=True)
    def test_a_delivery_report(self, api, client, provider, measured, configure):
        configure(DELIVERY_REPORT_SECRETS=["s" * 32])
        start(api)
        measured.look()
        report = {"id": Call.objects.get().reference.hex, "type": "FLASHINGCALL"}
        path = f"/phone/delivery-reports/default/{'s' * 32}/"
        for status, error in [(0, "0"), (5, "16"), (5, "16")]:
            content = {**report, "status": status, "errorCode": error}
            assert client.post(path, content, content_type="application/json").status_code == 200
        assert measured.look() == {
            "flashcall.delivery.reports": {
                ("default", "flash_call", "sent"): 1,
                ("busy", "default", "flash_call", "undelivered"): 1,
            }
        }

    @pytest.mark.django_db(transaction=True)
    def test_codes_that_another_system_checks(self, provider, measured):
        services.place_call(NUMBER, purpose="two-factor")
        services.confirm_call(NUMBER, purpose="two-factor")
        found = measured.look()
        for step in ("started", "verified", "redeemed"):
            assert found[f"flashcall.verification.{step}"] == {("_OTHER",): 1}

    def test_a_worker_counts_the_call_that_it_places(self, api, provider, measured, configure):
        configure(DISPATCH="task")
        start(api)
        assert measured.look() == {"flashcall.verification.started": {("signup",): 1}}
        tasks.place_call.call(Call.objects.get().pk)
        found = measured.look()
        assert found["flashcall.calls"] == {("default", "sent", "flash_call"): 1}
        assert found["flashcall.provider.request.duration"]

    def test_a_call_that_no_provider_was_asked_for_has_no_duration(
        self, api, provider, measured, configure
    ):
        configure(DISPATCH="task", TASK_BACKEND="redis")  # nobody listens there
        assert start(api)["error_code"] == "provider_unavailable"
        attributes = ("temporary_failure", "default", "rejected", "flash_call")
        assert measured.look() == {
            "flashcall.calls": {attributes: 1},
            "flashcall.verification.started": {("signup",): 1},
        }

    def test_calls_to_test_numbers_are_not_counted(self, api, measured, configure):
        configure(TEST_NUMBERS={NUMBER: "1234"})
        started = start(api)
        assert "token" in post(api, f"verifications/{started['id']}/check/", code="1234")
        assert measured.look() == {}

    def test_nothing_else_asks_the_database(self, api, provider, measured):
        """The budgets of `test_budgets` hold with the app installed; a collection is one query."""
        assert "django_flashcall.contrib.opentelemetry" in settings.INSTALLED_APPS
        with CaptureQueriesContext(connection) as queries:
            measured.look()
        assert len(queries) == 1


class TestBreaker:
    def fail(self, api, provider, times=5):
        for n in range(times):
            provider.script(Answer.error(100))
            start(api, f"+7916{n:03d}4567")

    def state(self, measured):
        return {a["flashcall.backend.alias"]: p.value for a, p in measured.points()[PAUSED]}

    def test_a_paused_backend(self, api, provider, measured):
        assert self.state(measured) == {"default": 0, "voice": 0}
        self.fail(api, provider)
        assert self.state(measured) == {"default": 1, "voice": 0}
        assert start(api)["error_code"] == "provider_unavailable"
        assert measured.look()[BLOCKED] == {("provider_unavailable", "breaker"): 1}
        CircuitBreaker.objects.update(
            next_try_at=Verification.objects.earliest("created_at").created_at
        )
        assert self.state(measured)["default"] == 1  # until a call went through
        assert start(api)["status"] == "pending"
        assert self.state(measured) == {"default": 0, "voice": 0}

    def test_without_breakers(self, api, provider, measured, configure):
        self.fail(api, provider)
        configure(BREAKER_FAILURES=0)
        assert self.state(measured)["default"] == 0

    def test_the_database_is_away(self, measured, provider_of_metrics, monkeypatch, caplog):
        """All other metrics are exported, and one line of the log says why one is missing."""
        monkeypatch.setitem(connections.settings["default"], "NAME", "/no/such/database")
        text = scrape(provider_of_metrics)
        assert "flashcall_call_in_flight" in text
        assert "flashcall_backend_paused{" not in text
        (record,) = [r for r in caplog.records if r.name.startswith("django_flashcall")]
        assert record.getMessage().startswith("The state of the backends was not exported: ")
        assert "Traceback" not in caplog.text
        assert "/no/such" not in caplog.text

    def test_wrong_settings(self, measured, configure):
        configure(BACKENDS="none")
        assert PAUSED not in measured.points()

    def test_a_collection_closes_the_connection_that_it_opened(self, measured):
        def collect():
            try:
                assert list(receivers._paused(None))
                return connections["default"].connection
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(collect).result() is None
        used = connection.connection
        assert list(receivers._paused(None))
        assert connection.connection is used is not None


@pytest.mark.django_db(transaction=True)
def test_calls_in_flight(waiting, measured):  # noqa: F811
    """Two requests wait for the provider; when it has answered, none does."""
    (point,) = measured.points()[IN_FLIGHT]
    assert (point[0], point[1].value) == ({}, 2)
    StuckBackend.released.set()
    assert [request.result().status_code for request in waiting] == [201, 201]
    assert measured.points()[IN_FLIGHT][0][1].value == 0


HOSTILE = "<script>+79161234567 1234 203.0.113.9 Bearer"
"""What must not be in an attribute: a number, a code, an address, and text of a stranger."""


class StrangeError(ProviderError):
    """An error of a site's own backend."""


class StrangeRefusal(FlashcallError):
    error_code = HOSTILE


def values(key):
    """Return the closed list of an attribute, written down here once more."""
    return {
        "flashcall.backend.alias": {"default", "voice"},
        "flashcall.channel": {"flash_call", "voice_code"},
        "flashcall.purpose": {"signup", "change"},
        "flashcall.call.outcome": {"sent", "unknown", "rejected"},
        "flashcall.delivery.outcome": {"sent", "undelivered", "delivered"},
        "flashcall.limit.scope": {
            *("number", "address", "prefix", "total", "rule"),
            *("guard", "channel", "in_flight", "breaker"),
        },
        "error.type": {
            *("number_rejected", "duplicate_rejected", "temporary_failure"),
            *("misconfigured", "unknown_outcome"),
            *("busy", "absent_subscriber", "not_provisioned", "failure", "unknown"),
            *("invalid_destination", "duplicate_call", "provider_unavailable"),
            *("cooldown", "too_many_calls", "phone_not_allowed", "too_many_attempts"),
        },
    }[key] | {"_OTHER"}


@pytest.fixture
def everything(api, client, provider, measured, configure):
    """Cause each metric, with strange values too."""
    configure(DELIVERY_REPORT_SECRETS=["s" * 32], COOLDOWN=60)
    started = start(api)
    token = post(
        api, f"verifications/{started['id']}/check/", code=provider.last_call(NUMBER).code
    )["token"]
    start(api)
    account = {"username": HOSTILE, "email": "", "password": "correct horse 9"}
    post(api, "signup/", phone_token=token, **{**account, "username": "ann"})
    call = Call.objects.get()
    path = f"/phone/delivery-reports/default/{'s' * 32}/"
    for content in (
        {"id": call.reference.hex, "status": 5, "errorCode": "77", "mccMnc": HOSTILE},
        {"id": call.reference.hex, "status": 2, "text": "1234", "sourceAddr": HOSTILE},
    ):
        client.post(path, content, content_type="application/json")
    provider.script(Answer(status=400, body=error_of(6, HOSTILE), rings=False))
    start(api, "+79161234568")

    strange = Call(backend=HOSTILE, channel=HOSTILE, provider_message=HOSTILE)
    verification = Verification(phone=call.phone, purpose=HOSTILE)
    verification.newest_call = strange
    signals.call_placed.send(Call, call=strange, error=None, duration=0.1)
    for error in (StrangeError(HOSTILE), TemporaryFailure(HOSTILE, code=1234)):
        signals.call_failed.send(Call, call=strange, error=error, duration=0.1)
    signals.verification_started.send(Verification, verification=verification)
    signals.phone_verified.send(Verification, verification=verification)
    signals.phone_redeemed.send(
        type(call.phone), phone=call.phone, user=None, verification=verification
    )
    signals.request_blocked.send(Refusal, error=StrangeRefusal(HOSTILE, scope=HOSTILE))
    report = DeliveryReport(call=call, outcome=HOSTILE, error_code=HOSTILE, mcc_mnc=HOSTILE)
    signals.delivery_reported.send(Call, call=strange, report=report)


def error_of(code, description):
    return json.dumps({"error": {"code": code, "description": description}}).encode()


class TestClosedLists:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_attributes_have_values_of_closed_lists_alone(self, everything, measured):
        found = measured.points()
        assert set(found) == {metric.name for metric in instruments.METRICS}
        for metric in instruments.METRICS:
            allowed = {attribute.key for attribute in metric.attributes}
            others = dict.fromkeys(allowed, 0)
            for attributes, _ in found[metric.name]:
                assert set(attributes) <= allowed, metric.name
                for key, value in attributes.items():
                    assert value in values(key), (metric.name, key)
                    others[key] += value == "_OTHER"
            if metric is not instruments.PAUSED:  # its values come from the settings
                assert all(others[key] for key in allowed - {OUTCOME}), (metric.name, others)

    def test_the_lists_are_those_of_the_documentation(self):
        for metric in instruments.METRICS:
            for attribute in metric.attributes:
                if attribute not in (instruments.BACKEND, instruments.PURPOSE):
                    assert set(attribute.values()) <= values(attribute.key)

    def test_what_is_scraped(self, everything, provider_of_metrics):
        lines = scrape(provider_of_metrics).splitlines()
        # Any digits can occur in a measured time: secrets could be in names and labels.
        text = "\n".join(
            line if line.startswith("#") else line.rpartition(" ")[0] for line in lines
        )
        for secret in ("script", "9161234567", "1234", "203.0", "Bearer"):
            assert secret not in text


def exported(text):
    """Return the names of the samples that Prometheus got, and the names of all labels."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    samples = [sample for sample in samples if sample.name.startswith("flashcall_")]
    return {sample.name for sample in samples}, {name for s in samples for name in s.labels}


def names_in(expression, labels):
    """Return the metrics that a query names."""
    return set(re.findall(r"\bflashcall_\w+", expression)) - labels


class TestNamesForPrometheus:
    """The documentation names what the exporter serves."""

    pytestmark = pytest.mark.django_db(transaction=True)

    def test_the_reference(self, everything, provider_of_metrics):
        names, _ = exported(scrape(provider_of_metrics))
        for metric in instruments.METRICS:
            name = reference.prometheus_name(metric)
            assert f"{name}_count" in names if metric.kind == "histogram" else name in names

    def test_the_dashboard(self, everything, provider_of_metrics):
        names, labels = exported(scrape(provider_of_metrics))
        dashboard = json.loads(DASHBOARD.read_text())
        shown = set()
        for panel in dashboard["panels"]:
            assert panel["title"]
            for target in panel["targets"]:
                found = names_in(target["expr"], labels)
                assert found, target
                shown |= found
                legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                assert legend <= labels
                assert all(label in target["expr"] for label in legend)
        assert shown <= names
        for metric in instruments.METRICS:
            assert any(name.startswith(reference.prometheus_name(metric)) for name in shown), metric
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])

    def test_the_alerts(self, everything, provider_of_metrics):
        names, labels = exported(scrape(provider_of_metrics))
        (rules,) = [b.text for b in documents.blocks(HOW_TO) if b.language == "yaml"]
        found = names_in(rules, labels)
        assert len(found) == 6
        assert found <= names
        for label, value in re.findall(r'(\w+)=~?"(.+?)"', rules):
            assert label in labels
            (key,) = [key for key in KEYS if key.replace(".", "_") == label]
            assert set(value.split("|")) <= values(key)
