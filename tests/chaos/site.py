"""The site of the run: gunicorn and workers, whose processes are killed and come back."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.processes import environment_of
from tests.web_server import GUNICORN, serve
from tests.workers import settings_of_queues, start_worker

WORKERS = 3
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "ERROR"},
}
WEB_KILLS, TASK_KILLS = "web workers killed", "task workers killed"


class Workers:
    """Workers that are started again when they end, as by systemd.

    Args:
        kind: that of `start_worker`.
        environment: the result of `environment_of`.
        log: the file for their output.
    """

    def __init__(self, kind: str, environment: dict[str, str], log: Path) -> None:
        self.start_one = lambda: start_worker(kind, environment, log)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.orphans: list[psutil.Process] = []
        self._lock = threading.Lock()
        self._keepers: list[threading.Thread] = []

    def start(self) -> None:
        self._over = False
        self._keepers = [threading.Thread(target=self._keep, args=[n]) for n in range(WORKERS)]
        for keeper in self._keepers:
            keeper.start()

    def stop(self) -> None:
        """Let the workers finish what they are doing, and wait for the children of killed ones."""
        with self._lock:
            self._over = True
            for process in self.processes.values():
                process.terminate()
        for keeper in self._keepers:
            keeper.join()
        psutil.wait_procs(self.orphans, timeout=60)

    def kill(self, rng: random.Random) -> None:
        """Kill a worker or, where it has one, the child that runs its task."""
        with self._lock, contextlib.suppress(psutil.NoSuchProcess):
            worker = psutil.Process(rng.choice(list(self.processes.values())).pid)
            children = worker.children()
            victim = rng.choice([worker, *children])
            victim.kill()
            self.orphans += [child for child in children if child != victim]

    def _keep(self, n: int) -> None:
        while True:
            with self._lock:
                if self._over:
                    return
                process = self.processes[n] = self.start_one()
            process.wait()


class Site:
    """A running site.

    Attributes:
        url: where it serves.
        workers: its workers; None if it places calls inline.
    """

    def __init__(self, port: int, workers: Workers | None) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.workers = workers
        bind = f"--bind=127.0.0.1:{port}"
        [self._server] = [p for p in psutil.Process().children() if bind in p.cmdline()]

    def kill(self, rng: random.Random) -> str:
        """Kill -9 a random process and return its kind."""
        if self.workers is not None and rng.random() < 0.5:
            self.workers.kill(rng)
            return TASK_KILLS
        if children := self._server.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(children).kill()
        return WEB_KILLS


@contextlib.contextmanager
def running_site(
    folder: Path, database: dict[str, Any], flashcall: dict[str, Any], redis: str
) -> Iterator[Site]:
    """Run a site with the workers that its ``FLASHCALL`` needs."""
    workers = None
    given = {**settings_of_queues(redis), "LOGGING": LOGGING}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serve(GUNICORN, folder, database, flashcall, **given))
        if flashcall["DISPATCH"] == "task":
            environment = environment_of(database, flashcall, **given)
            workers = Workers(flashcall["TASK_BACKEND"], environment, folder / "workers.log")
            workers.start()
            stack.callback(workers.stop)
        yield Site(port, workers)
