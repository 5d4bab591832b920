"""Measures the FlashingCall backend alone, against the simulator over TLS on this machine.

As a program, it serves: ``python -m tests.benchmarks.speed.provider certificate.pem``.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import certifi
import requests

from .in_process import spread


def measure(rounds: int, batch: int) -> list[dict[str, Any]]:
    """Place calls in four ways, in turn: as the app does, and as simpler code would."""
    from django_flashcall.backends import CallRequest
    from django_flashcall.backends.flashingcall import FlashingCallBackend
    from django_flashcall.redaction import Secret

    with simulator() as (url, certificates):
        options: dict[str, Any] = {"url": url, "login": "demo", "password": "demo"}
        backend = FlashingCallBackend("default", verify=certificates, **options)
        session = requests.Session()

        def call() -> CallRequest:
            return CallRequest("+79161234567", Secret("7391"), uuid.uuid4().hex, "flash_call")

        def pooled() -> None:
            backend.place_call(call())

        def anew() -> None:
            backend.close()
            backend.place_call(call())

        def bare(http: Any = session) -> None:
            wire = backend.wire_request(call())
            answer = http.post(url, json=wire.json, verify=certificates, timeout=10)
            assert answer.json()["mtNum"]

        ways: dict[str, Callable[[], None]] = {
            "the app's backend": pooled,
            "a bare requests.Session": bare,
            "the app's backend, a new connection for each call": anew,
            "requests.post": lambda: bare(requests),
        }
        cpu: dict[str, list[float]] = {way: [] for way in ways}
        wall: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, place in ways.items():
                place()  # the connection of the round before may be too old
                begun = time.process_time()
                for _ in range(batch):
                    sent = time.perf_counter()
                    place()
                    wall[way].append((time.perf_counter() - sent) * 1000)
                cpu[way].append((time.process_time() - begun) * 1000 / batch)
        backend.close()
        session.close()
    results = []
    for way in ways:
        percent = quantiles(wall[way], n=100, method="inclusive")
        times = {"p50": percent[49], "p99": percent[98]}
        results.append({"way": way, "cpu_ms": spread(cpu[way]), "wall_ms": times})
    return results


@contextmanager
def simulator() -> Iterator[tuple[str, str]]:
    """Run the simulator in a process of its own; yield its URL and a bundle of certificates."""
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        authority, bundle, server = trustme.CA(), Path(folder, "ca"), Path(folder, "server")
        # Besides all others that a site trusts.
        bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(server))
        command = [sys.executable, "-m", "tests.benchmarks.speed.provider", str(server)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            yield f"https://localhost:{process.stdout.readline().strip()}/", str(bundle)
            process.terminate()


def serve(certificate: str) -> None:
    from django_flashcall.simulator import Simulator

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    simulator = Simulator().start()
    server = simulator._server  # it speaks no TLS itself
    assert server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(sys.argv[1])
