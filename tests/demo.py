"""The example project as a process of its own: ``manage.py demo`` on free ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

PROJECT = Path(__file__).parent.parent / "example_project"


@dataclass
class Demo:
    """A running demo: the URLs of site and provider, and what it printed."""

    site: str
    provider: str
    database: Path
    said: str = ""

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("DJANGO")},
            "DEMO_DATABASE": str(self.database),
            "DEMO_PROVIDER": self.provider,
            "PYTHONWARNINGS": "default",
            **changes,
        }

    def manage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the example project until it ends."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )

    def again(self, site: int, provider: int) -> subprocess.CompletedProcess[str]:
        """Start a second demo on ports of which one is taken, and wait for its end."""
        url = f"http://127.0.0.1:{provider}/"
        return self.manage("demo", "--port", str(site), DEMO_PROVIDER=url)


@contextmanager
def running_demo(folder: Path, port: Callable[[], int], **environment: str) -> Iterator[Demo]:
    """Start the demo, wait until it answers, and stop it by Ctrl-C in the end.

    Args:
        folder: where its database goes.
        port: gives free ports.
        environment: more of its environment.
    """
    site = port()
    demo = Demo(f"http://127.0.0.1:{site}/", f"http://127.0.0.1:{port()}/", folder / "demo.sqlite3")
    process = subprocess.Popen(
        [sys.executable, "-u", "manage.py", "demo", "--port", str(site)],
        cwd=PROJECT,
        env=demo.environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in process.stdout:
            demo.said += line
            if "Quit the server" in line:  # runserver says so a moment before it listens
                break
        else:
            raise RuntimeError(demo.said)
        wait_until_it_answers(demo.site)
        yield demo
    finally:
        process.send_signal(signal.SIGINT)
        demo.said += process.communicate(timeout=30)[0]
    assert process.returncode == 0, demo.said


def wait_until_it_answers(url: str) -> None:
    for _ in range(100):
        try:
            requests.get(url)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)
