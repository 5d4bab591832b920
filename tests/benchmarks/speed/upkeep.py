"""Measures what a site pays besides requests: deleting old rows, importing the app, disk space."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.db import connection

from .in_process import spread

ROWS_OF_VERIFICATION = 4
"""Rows that are deleted with a verification: itself, its call, attempts and reports."""

IMPORT = """
import json, sys, time
begun, cpu = time.perf_counter(), time.process_time()
import django
from django.conf import settings
own = sys.argv[1:]
apps = [f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions", "messages")]
settings.configure(
    SECRET_KEY="measured",
    INSTALLED_APPS=[*apps, "rest_framework", *own[:1]],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
)
django.setup()
import rest_framework.views, rest_framework.serializers
for name in own[1:]:
    __import__(name)
seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
memory = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps({"ms": seconds * 1000, "cpu_ms": cpu * 1000, "mb": int(memory.split()[1]) / 1024}))
"""


def prune(rows: int) -> dict[str, Any]:
    """Delete about so many rows with the app's own function, the oldest first."""
    from django_flashcall import services
    from django_flashcall.models import Verification

    oldest = Verification.objects.order_by("created_at").values_list("created_at", flat=True)
    before = oldest[min(rows // ROWS_OF_VERIFICATION, len(oldest) * 9 // 10)]
    statements: list[float] = []

    def timed(execute: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(*arguments)
        finally:
            statements.append(time.perf_counter() - begun)

    begun, cpu = time.perf_counter(), time.process_time()
    with connection.execute_wrapper(timed), timed_transactions() as transactions:
        deleted = services.prune(before)
    return {
        "rows": deleted.total(),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "longest_statement_ms": max(statements) * 1000,
        "longest_transaction_ms": max(transactions, default=0) * 1000,
    }


@contextmanager
def timed_transactions() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of each transaction; Django offers no hook for them."""
    seconds: list[float] = []
    begun = 0.0
    switch = connection.set_autocommit

    def watched(autocommit: bool, *args: Any, **kwargs: Any) -> None:
        nonlocal begun
        if not autocommit:
            begun = time.perf_counter()
        switch(autocommit, *args, **kwargs)
        if autocommit:
            seconds.append(time.perf_counter() - begun)

    connection.set_autocommit = watched  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        del connection.set_autocommit


def imports(repeats: int) -> list[dict[str, Any]]:
    """Start Python with Django and DRF, without and with the app, in turn."""
    ways = {
        "Django and DRF": [],
        "Django, DRF and the app": [
            "django_flashcall",
            "django_flashcall.rest_framework.urls",
            "django_flashcall.urls",
            "django_flashcall.backends.flashingcall",
        ],
    }
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(repeats + 1):
        for way, modules in ways.items():
            command = [sys.executable, "-c", IMPORT, *modules]
            found = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[way].append(json.loads(found.stdout))
    # The first run compiles, and fills the cache of the disk.
    return [
        {"site": way, **{name: spread([run[name] for run in found[1:]]) for name in found[0]}}
        for way, found in runs.items()
    ]


def sizes() -> dict[str, Any]:
    """Return the bytes of each table of the app and of its indexes."""
    tables: dict[str, Any] = {}
    for model in apps.get_app_config("django_flashcall").get_models():
        table = model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_total_relation_size(%s), pg_table_size(%s)", [f'"{table}"'] * 2
            )
            total, rows = cursor.fetchone()
            cursor.execute(
                "SELECT indexname, pg_relation_size(quote_ident(indexname)::regclass)"
                " FROM pg_indexes WHERE tablename = %s ORDER BY 2 DESC",
                [table],
            )
            indexes = dict(cursor.fetchall())
        count = model._default_manager.count()
        tables[table] = {"rows": count, "total": total, "table": rows, "indexes": indexes}
    return tables
