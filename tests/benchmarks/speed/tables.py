"""Turns the measurements into the tables of `docs/explanation/speed.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .seed import MOST_WITH_INDEXES

Results = dict[str, Any]

START = "<!-- table: {} -->"
END = "<!-- end of table -->"


def fill(page: Path, tables: dict[str, str]) -> None:
    """Replace what stands between the markers of each table."""
    text = page.read_text()
    for name, table in tables.items():
        start = START.format(name)
        pattern = re.escape(start) + ".*?" + re.escape(END)
        new = f"{start}\n\n{table}\n\n{END}"
        text, found = re.subn(pattern, lambda _, new=new: new, text, flags=re.S)  # type: ignore[misc]
        if not found:
            raise RuntimeError(f"{page.name} has no {start}")
    page.write_text(text)


def tables(results: Results) -> dict[str, str]:
    """Return all tables by name."""
    return {
        "machine": machine(results),
        "in process": in_process(results),
        "server": server(results),
        "provider": provider(results),
        "prune": prune(results),
        "imports": imports(results),
        "bytes": sizes(results),
        "indexes": indexes(results),
    }


def machine(results: Results) -> str:
    return table(["", ""], results["machine"].items())


def in_process(results: Results) -> str:
    head = ["calls", "operation", "package", "CPU ms", "p50 ms", "p99 ms", "statements"]
    return table(
        head,
        (
            [
                thousands(size),
                row["operation"],
                row["package"],
                median(row["cpu_ms"], 2),
                f"{row['wall_ms']['p50']:.1f}",
                f"{row['wall_ms']['p99']:.1f}",
                row["statements"],
            ]
            for size, found in results["sizes"].items()
            for row in found["in_process"]
        ),
    )


def server(results: Results) -> str:
    head = ["calls", "operation", "package", "connections", "per second", "p50 ms", "p99 ms"]
    return table(
        head,
        (
            [
                thousands(size),
                row["operation"],
                row["package"],
                row["connections"],
                median(row["per_second"], 0),
                f"{row['p50_ms']['median']:.0f}",
                f"{row['p99_ms']['median']:.0f}",
            ]
            for size, found in results["sizes"].items()
            for row in found.get("server", ())
        ),
    )


def provider(results: Results) -> str:
    rows = (
        [
            row["way"],
            median(row["cpu_ms"], 2),
            f"{row['wall_ms']['p50']:.1f}",
            f"{row['wall_ms']['p99']:.1f}",
        ]
        for row in results["provider"]
    )
    return table(["way", "CPU ms", "p50 ms", "p99 ms"], rows)


def prune(results: Results) -> str:
    found = results["prune"]
    head = ["rows deleted", "time", "rows per second", "longest statement", "longest transaction"]
    row = [
        thousands(found["rows"]),
        f"{found['seconds']:.1f} s",
        thousands(round(found["rows"] / found["seconds"])),
        f"{found['longest_statement_ms']:.0f} ms",
        f"{found['longest_transaction_ms']:.0f} ms",
    ]
    return table(head, [row])


def imports(results: Results) -> str:
    rows = (
        [row["site"], median(row["ms"], 0), median(row["cpu_ms"], 0), median(row["mb"], 1)]
        for row in results["imports"]
    )
    return table(["process", "import ms", "CPU ms", "memory MB"], rows)


def sizes(results: Results) -> str:
    """In MB for a million verifications."""
    size, found = largest(results)
    rows = [
        [name, thousands(row["rows"])]
        + [per_million(row[part], size) for part in ("table", "indexes", "total")]
        for name, row in with_index_sums(found["bytes"])
    ]
    total = sum(row["total"] for row in found["bytes"].values())
    rows.append(["all", "", "", "", per_million(total, size)])
    return table(["table", "rows", "table MB", "indexes MB", "total MB"], rows)


def indexes(results: Results) -> str:
    size, found = largest(results)
    rows = (
        [name, index, per_million(count, size)]
        for name, row in found["bytes"].items()
        for index, count in row["indexes"].items()
        if row["rows"] > size / 10
    )
    return table(["table", "index", "MB"], rows)


def largest(results: Results) -> tuple[int, Results]:
    """Return the largest number of calls whose indexes grew as on a site, and its measurements."""
    grown = [size for size in results["sizes"] if int(size) <= MOST_WITH_INDEXES]
    size = max(grown or results["sizes"], key=int)
    return int(size), results["sizes"][size]


def with_index_sums(tables: Results) -> Iterable[tuple[str, Results]]:
    for name, row in tables.items():
        yield name, {**row, "indexes": sum(row["indexes"].values())}


def per_million(count: float, size: int) -> str:
    return f"{count / size:.0f}"  # bytes of one are megabytes of a million


def median(spread: Results, digits: int) -> str:
    """Show a median, with its quartiles."""
    low, middle, high = (f"{spread[name]:.{digits}f}" for name in ("q1", "median", "q3"))
    return middle if low == high else f"{middle} ({low}–{high})"


def thousands(number: Any) -> str:
    return f"{int(number):,}"


def table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
