"""Fixtures for a site's tests with pytest and pytest-django; found by pytest of itself.

Nothing of Django is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .backends import CallRequest
    from .simulator import Account, Simulator

__all__ = [
    "flashcall_outbox",
    "flashcall_provider",
    "flashcall_simulator",
    "flashcall_simulator_accounts",
]


@pytest.fixture
def flashcall_outbox(settings: Any) -> list[CallRequest]:
    """The calls that a test placed, oldest first: every backend of the site is replaced.

    `django_flashcall.testing.last_code` finds the code for a number in it.
    """
    from . import testing

    testing.outbox.clear()
    settings.FLASHCALL = testing.captured()
    return testing.outbox


@pytest.fixture(scope="session")
def flashcall_simulator_accounts() -> list[Account]:
    """The accounts of the simulator, for flash calls and voice codes; override it for others."""
    from .simulator import Account

    return [
        Account("demo", "demo-password", six_digits=True),
        Account("demo-voice", "demo-password", voice=True),
    ]


@pytest.fixture(scope="session")
def _flashcall_running_simulator(
    flashcall_simulator_accounts: list[Account],
) -> Iterator[Simulator]:
    from .simulator import Simulator

    with Simulator(flashcall_simulator_accounts) as simulator:
        yield simulator


@pytest.fixture
def flashcall_simulator(_flashcall_running_simulator: Simulator) -> Simulator:
    """The provider's API on a local port, with nothing remembered; no setting is changed.

    ``flashcall_simulator.script(Answer.error(8))`` says what the next request is answered;
    ``settings.FLASHCALL = testing.simulated(flashcall_simulator)`` makes it the site's provider.
    """
    _flashcall_running_simulator.clear()
    return _flashcall_running_simulator


@pytest.fixture
def flashcall_provider(flashcall_simulator: Simulator, settings: Any) -> Simulator:
    """The simulator as the provider of the site, for flash calls and voice codes."""
    from . import testing

    # Long enough for a busy machine, short enough for tests that wait for its end.
    settings.FLASHCALL = testing.simulated(flashcall_simulator, connect_timeout=3, timeout=4)
    return flashcall_simulator
