"""Fixtures for pytest with pytest-django; pytest finds them automatically.

Django is not imported until a fixture is used.
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
    """Replace every backend of the site and return the calls of the test, oldest first.

    `django_flashcall.testing.last_code` returns the code for a number.
    """
    from . import testing

    testing.outbox.clear()
    settings.FLASHCALL = testing.captured()
    return testing.outbox


@pytest.fixture
def flashcall_simulator_accounts() -> list[Account]:
    """Return the simulator's accounts for flash calls and voice codes. Override it as needed."""
    from .simulator import Account

    return [
        Account("demo", "demo-password", six_digits=True),
        Account("demo-voice", "demo-password", voice=True),
    ]


@pytest.fixture(scope="session")
def _flashcall_running_simulator() -> Iterator[Simulator]:
    from .simulator import Simulator

    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def flashcall_simulator(
    _flashcall_running_simulator: Simulator, flashcall_simulator_accounts: list[Account]
) -> Simulator:
    """Return the running simulator, cleared; no setting is changed.

    ``flashcall_simulator.script(Answer.error(8))`` sets the answer to the next request;
    ``settings.FLASHCALL = testing.simulated(flashcall_simulator)`` makes it the site's provider.
    """
    _flashcall_running_simulator.clear()
    accounts = {account.login: account for account in flashcall_simulator_accounts}
    _flashcall_running_simulator.accounts = accounts
    return _flashcall_running_simulator


@pytest.fixture
def flashcall_provider(flashcall_simulator: Simulator, settings: Any) -> Simulator:
    """Make the simulator the site's provider for flash calls and voice codes."""
    from . import testing

    # Long enough for a busy machine, short enough for tests that wait for a timeout.
    settings.FLASHCALL = testing.simulated(flashcall_simulator, connect_timeout=3, timeout=4)
    return flashcall_simulator
