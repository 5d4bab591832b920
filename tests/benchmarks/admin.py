"""Measures the admin over a million calls, beside a plain `ModelAdmin` of the same table.

    TEST_DATABASE=postgres python -m tests.benchmarks.admin [number of calls]

It makes a database of its own, and prints for each page the queries (without session and user), the
median time, and whether a plan reads the table of calls from its beginning to its end.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median
from typing import Any

TABLE = "django_flashcall_call"
REPEATS = 5


def main(calls: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    os.environ.setdefault("TEST_DATABASE", "postgres")
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection
    from django.test.utils import setup_test_environment

    setup_test_environment()
    settings.ROOT_URLCONF = "tests.benchmarks.urls"
    kept = "KEEP_DATABASE" in os.environ  # for whoever changes a query, and runs this again
    before = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, serialize=False, keepdb=kept)
    try:
        measure_all(calls)
    finally:
        connection.creation.destroy_test_db(before, verbosity=0, keepdb=kept)


def measure_all(calls: int) -> None:
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client

    from django_flashcall.models import Call

    from .seed import seed

    if not Call.objects.exists():
        begun = time.perf_counter()
        seed(calls)
        print(f"{calls:,} calls made in {time.perf_counter() - begun:.0f} s")
    print(f"PostgreSQL {connection.pg_version}")
    client = Client()
    user, _ = get_user_model().objects.get_or_create(
        username="admin", is_staff=True, is_superuser=True
    )
    client.force_login(user)
    call = (
        Call.objects.select_related("phone").filter(status="delivered").order_by("pk")[calls // 3]
    )
    number = call.phone.number
    typed = f"8 ({number[2:5]}) {number[5:8]}-{number[8:10]}-{number[10:]}"
    day = f"{call.created_at:created_at__year=%Y&created_at__month=%-m&created_at__day=%-d}"
    further = min(150, calls // 100)
    pages = {
        "list": ("call/", "call/"),
        "a page of the list further on": (f"call/?p={further}",) * 2,
        "filter: status": ("call/?status__exact=rejected", "call/?status__exact=rejected"),
        "filter: status and backend": (
            "call/?status__exact=unknown&backend=voice",
            "call/?status__exact=unknown&backend=voice",
        ),
        "filter: reason": ("call/?reason=busy", "call/?error_code=busy"),
        "filter: day": (f"call/?{day}", f"call/?{day}"),
        "search: number": (f"call/?q={typed}", f"call/?q={number[1:]}"),
        "search: beginning of a number": ("call/?q=%2B79161", "call/?q=%2B79161"),
        "search: provider's identifier": (f"call/?q={call.provider_id}",) * 2,
        "search: verification": (f"call/?q={call.verification_id}", None),
        "search: nothing there": ("call/?q=%2B79990000000", "call/?q=%2B79990000000"),
        "timeline": (f"verification/{call.verification_id}/change/",) * 2,
        "phones": ("phone/", None),
        "phones: waiting": ("phone/?state=waiting", None),
        "phone": (f"phone/{call.phone_id}/change/", None),
        "statistics: day": ("call/statistics/?period=day", None),
        "statistics: week": ("call/statistics/?period=week", None),
        "statistics: month": ("call/statistics/?period=month", None),
        "index of the app, with health": ("", None),
    }
    print("| page | queries | time | reads all calls | plain: queries | time | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, (ours, plain) in pages.items():
        queries, seconds, scans = measure(client, f"/admin/django_flashcall/{ours}")
        cells = [name, queries, f"{seconds * 1000:.0f} ms", ", ".join(scans) or "no"]
        if plain is not None:
            theirs, longer, _ = measure(client, f"/plain/django_flashcall/{plain}")
            cells += [theirs, f"{longer * 1000:.0f} ms", f"{longer / seconds:.1f}"]
        else:
            cells += ["", "", ""]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def measure(client: Any, url: str) -> tuple[int, float, list[str]]:
    """Return number of queries, median time, and how plans read all calls, if any does."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    assert response.status_code == 200, (url, response.status_code)
    ours = [
        query["sql"]
        for query in captured.captured_queries
        if "django_session" not in query["sql"] and '"auth_user"."password"' not in query["sql"]
    ]
    scans = [scan for sql in ours if sql.startswith("SELECT") for scan in full_scans(sql)]
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        client.get(url)
        times.append(time.perf_counter() - begun)
    return len(ours), median(times), scans


def full_scans(sql: str) -> list[str]:
    """Name the nodes of a plan that read the whole table of calls, with their share of its rows."""
    import json

    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + sql.replace("%", "%%"), ())
        plan = cursor.fetchone()[0]
    plan = json.loads(plan) if isinstance(plan, str) else plan
    found = []
    nodes = [(plan[0]["Plan"], False)]
    while nodes:
        node, limited = nodes.pop()
        limited = limited or node["Node Type"] == "Limit"
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == TABLE:
            found.append("up to a limit" if limited else "yes")
        nodes += [(child, limited) for child in node.get("Plans", ())]
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
