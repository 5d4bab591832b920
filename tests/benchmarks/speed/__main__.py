"""Measures speed and size of the app on PostgreSQL, beside two packages that do the same by SMS.

    make bench
    make bench ARGS=--short
    python -m tests.benchmarks.speed --sizes 10000,1000000

It starts a PostgreSQL of its own, writes `build/speed.json` and, unless it is short, the tables of
`docs/explanation/speed.md`. Nobody is called.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "build" / "speed.json"
PAGE = ROOT / "docs" / "explanation" / "speed.md"
PACKAGES = (
    "Django",
    "djangorestframework",
    "psycopg",
    "gunicorn",
    "django-phone-verify",
    "drfpasswordless",
)


class Form(NamedTuple):
    """How much is measured."""

    sizes: tuple[int, ...]
    rounds: int
    batch: int
    connections: tuple[int, ...]
    seconds: int
    repeats: int
    pruned: int
    every_size_in_server: bool


FULL = Form((10_000, 1_000_000, 10_000_000), 30, 10, (1, 8, 32), 3, 3, 1_000_000, True)
SHORT = Form((10_000, 100_000), 5, 5, (8,), 2, 1, 10_000, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--sizes", help="numbers of calls, with commas between them")
    options = parser.parse_args()
    form = SHORT if options.short else FULL
    if options.sizes:
        form = form._replace(sizes=tuple(sorted(map(int, options.sizes.split(",")))))
    set_up()
    from . import tables  # before the long part, so that a mistake shows at once

    results = measure(form)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    found = tables.tables(results)
    if options.short:
        print("\n\n".join(found.values()))
    else:
        tables.fill(PAGE, found)
    print(f"Written: {RESULTS.relative_to(ROOT)}")


def set_up() -> None:
    """Start PostgreSQL with its own defaults, unless PGHOST names one, and make the tables."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.speed.settings"
    started = "PGHOST" not in os.environ
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    with connection.cursor() as cursor:
        if started:  # the one of the test suite does not wait for the disk
            cursor.execute("ALTER SYSTEM SET fsync = on")
            cursor.execute("ALTER SYSTEM SET full_page_writes = on")
            cursor.execute("SELECT pg_reload_conf()")
    call_command("migrate", run_syncdb=True, verbosity=0)


def measure(form: Form) -> dict[str, Any]:
    from . import in_process, operations, provider, seed, server, upkeep

    results: dict[str, Any] = {"machine": machine(), "sizes": {}}
    sizes = results["sizes"]
    for size in form.sizes:
        found = sizes[str(size)] = {}
        slow = operations.too_slow(size)
        in_server = [each for each in operations.OPERATIONS if each not in slow]
        step(f"{size:,} calls: store them", seed.seed, size)
        found["bytes"] = step("sizes of the tables", upkeep.sizes)
        found["in_process"] = step(
            "in process",
            in_process.measure,
            operations.OPERATIONS,
            form.rounds,
            form.batch,
            slow,
        )
        if form.every_size_in_server or size == form.sizes[-1]:
            times = form.seconds, form.repeats, partial(seed.refill, size)
            found["server"] = step("gunicorn", server.measure, in_server, form.connections, *times)
            some = [each for each in in_server if each.name in operations.DEFAULTS_OF]
            found["defaults"] = step(
                "gunicorn, Django's defaults", server.measure, some, (8,), *times, False
            )
    results["prune"] = step("prune", upkeep.prune, form.pruned)
    results["provider"] = step("provider", provider.measure, form.rounds, form.batch)
    results["imports"] = step("imports", upkeep.imports, 3 if form is SHORT else 9)
    return results


def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a part, and print how long it took."""
    print(f"{name} …", end=" ", flush=True)
    begun = time.perf_counter()
    result = function(*arguments)
    print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    return result


def machine() -> dict[str, str]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (postgres,) = cursor.fetchone()
        cursor.execute("SHOW fsync")
        (fsync,) = cursor.fetchone()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": f"{postgres}, its default settings, fsync {fsync}",
        **{name: version(name) for name in PACKAGES},
    }


def processor() -> str:
    """Return the name of the processor, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
