"""Fixtures of the whole suite, loaded by ``conftest.py``."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import translation

from django_flashcall.simulator import Account, Simulator

from .demo import Demo, running_demo

PROVIDER_PASSWORD = "pa55word-of-the-site"


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    """A request in Russian leaves its thread in Russian, for the tests that follow it."""
    with translation.override("en"):
        yield


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Change keys of ``FLASHCALL`` for a test."""

    def configure(**keys: Any) -> None:
        settings.FLASHCALL = {**settings.FLASHCALL, **keys}

    return configure


@pytest.fixture
def outbox(flashcall_outbox: list[Any]) -> list[Any]:
    """The calls that the locmem backend has placed in a test."""
    return flashcall_outbox


@pytest.fixture
def api() -> Any:
    """DRF's client of an anonymous visitor."""
    from rest_framework.test import APIClient

    return APIClient()


@pytest.fixture(scope="session")
def flashcall_simulator_accounts() -> list[Account]:
    """Accounts with a password that nothing shows by chance."""
    return [
        Account("site", PROVIDER_PASSWORD, six_digits=True),
        Account("site-voice", PROVIDER_PASSWORD, voice=True),
    ]


@pytest.fixture
def simulator(flashcall_simulator: Simulator) -> Simulator:
    """The provider on a local port, with nothing remembered."""
    return flashcall_simulator


@pytest.fixture
def provider(flashcall_provider: Simulator) -> Simulator:
    """The simulator as the provider of the site, for flash calls and voice codes."""
    return flashcall_provider


@pytest.fixture(scope="session")
def unused_tcp_port_factory() -> Callable[[], int]:
    """Gives ports that nobody listens on."""

    def port() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return port


@pytest.fixture
def unused_tcp_port(unused_tcp_port_factory: Callable[[], int]) -> int:
    return unused_tcp_port_factory()


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[Demo]:
    """The example project, running."""
    with running_demo(tmp_path_factory.mktemp("demo"), unused_tcp_port_factory) as demo:
        yield demo
