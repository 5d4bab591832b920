"""Metrics of a site in gunicorn, sent by each process or scraped, and the app without its extra."""

import gzip
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from django_flashcall.contrib.opentelemetry import instruments

from . import documents
from .processes import wait_until
from .test_checks import WAITING
from .web_server import PROCESSES, gunicorn

pytestmark = pytest.mark.django_db  # none of it is used: the server has its own

HOW_TO = documents.DOCS / "how-to" / "monitoring.md"
IN_FLIGHT, PAUSED = instruments.IN_FLIGHT.name, instruments.PAUSED.name
WATCHDOG = 60
STARTS = 20


class Collector(ThreadingHTTPServer):
    """Takes what the exporters of processes send, as the OpenTelemetry Collector does."""

    def __init__(self):
        self.values = {}
        super().__init__(("127.0.0.1", 0), TakeMetrics)

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.thread.join()
        self.server_close()

    def take(self, sent):
        for of_process in sent.resource_metrics:
            said = {a.key: a.value.string_value for a in of_process.resource.attributes}
            for metric in [m for scope in of_process.scope_metrics for m in scope.metrics]:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    value = point.count if kind == "histogram" else point.as_int
                    key = said["service.instance.id"], metric.name, str(point.attributes)
                    self.values[key] = value

    def by_process(self, name):
        """Return the newest value of a metric by process."""
        found = Counter()
        for (process, metric, _), value in list(self.values.items()):
            if metric == name:
                found[process] += value
        return found


class TakeMetrics(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.take(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportMetricsServiceResponse().SerializeToString())

    def log_message(self, *args):
        pass


def write_site(folder, telemetry, config):
    """Write the files of the how-to: the `mysite/telemetry.py` with a function, and a config."""
    (folder / "mysite").mkdir()
    (folder / "mysite" / "__init__.py").touch()
    found = [block for block in documents.blocks(HOW_TO) if f"def {telemetry}" in block.text]
    (folder / "mysite" / "telemetry.py").write_text(found[0].text)
    (folder / "gunicorn.conf.py").write_text(config)
    return {"PYTHONPATH": os.pathsep.join([str(documents.ROOT), str(folder)])}


@pytest.fixture
def database(tmp_path):
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "db.sqlite3"),
        "OPTIONS": WAITING,
    }


def call_many(port):
    """Start verifications at the same time, each from an address and in a range of its own."""

    def call(n):
        return requests.post(
            f"http://127.0.0.1:{port}/api/verifications/",
            json={"phone": f"+7916{n:03d}0000"},
            headers={"X-Forwarded-For": f"10.0.{n}.1"},
            timeout=WATCHDOG,
        ).status_code

    with ThreadPoolExecutor(STARTS) as pool:
        return Counter(pool.map(call, range(STARTS)))


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["", "preload"])
def test_each_process_of_gunicorn_sends_its_metrics(
    arguments, tmp_path, provider, settings, database
):
    """With the files of the how-to, nothing is lost and nothing is counted twice."""
    (config,) = [b.text for b in documents.blocks(HOW_TO) if b.caption == "gunicorn.conf.py"]
    variables = write_site(tmp_path, "export_metrics", config)
    flashcall = {**settings.FLASHCALL, "TRUSTED_PROXIES": 1, "MAX_CALLS_IN_FLIGHT": STARTS}
    with Collector() as collector:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
        variables["OTEL_METRIC_EXPORT_INTERVAL"] = "100"
        options = ("--config", str(tmp_path / "gunicorn.conf.py"), *arguments)
        with gunicorn(tmp_path, database, flashcall, *options, **variables) as port:
            assert call_many(port) == {201: STARTS}
            for name in (instruments.CALLS.name, instruments.STARTED.name):
                wait_until(
                    lambda name=name: collector.by_process(name).total() >= STARTS, "metrics"
                )
            wait_until(lambda: len(collector.by_process(IN_FLIGHT)) == PROCESSES, "a process")
            wait_until(lambda: len(collector.by_process(PAUSED)) == PROCESSES, "a process")
            wait_until(lambda: not collector.by_process(IN_FLIGHT).total(), "calls in flight")
        for metric in (instruments.CALLS, instruments.DURATION, instruments.STARTED):
            assert collector.by_process(metric.name).total() == STARTS
        assert len(provider.calls) == STARTS


def test_prometheus_asks_one_process(tmp_path, provider, settings, database, unused_tcp_port):
    config = "from mysite.telemetry import serve_metrics\n\n\ndef post_fork(server, worker):\n"
    variables = write_site(tmp_path, "serve_metrics", f"{config}    serve_metrics()\n")
    variables["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(unused_tcp_port)
    flashcall = {**settings.FLASHCALL, "TRUSTED_PROXIES": 1, "MAX_CALLS_IN_FLIGHT": STARTS}
    options = ("--config", str(tmp_path / "gunicorn.conf.py"), "--workers", "1")
    with gunicorn(tmp_path, database, flashcall, *options, **variables) as port:
        assert call_many(port) == {201: STARTS}
        text = requests.get(f"http://127.0.0.1:{unused_tcp_port}/metrics", timeout=WATCHDOG).text
    started = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "flashcall_verification_started_total"
    ]
    assert started == [STARTS]


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check", "--tag", "django_flashcall"])
"""


def check_without_the_extra(remove):
    settings = "import tests.settings as s\ns.INSTALLED_APPS.remove('{}')\n"
    script = settings.format("django_flashcall.contrib.opentelemetry") + WITHOUT
    return subprocess.run(
        [sys.executable, "-c", script if remove else WITHOUT],
        cwd=documents.ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_extra():
    """The app says what is missing; without the app, nothing is."""
    done = check_without_the_extra(remove=False)
    assert done.returncode
    assert done.stderr.strip().endswith(
        "ImproperlyConfigured: django_flashcall.contrib.opentelemetry is in INSTALLED_APPS, but "
        "opentelemetry-api is not installed. Run `pip install "
        '"django-flashcall[opentelemetry]"`, or remove the app.'
    )
    done = check_without_the_extra(remove=True)
    assert done.returncode == 0, done.stderr
