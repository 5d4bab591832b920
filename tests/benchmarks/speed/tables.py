"""Turns the measurements into the tables of `docs/explanation/speed.md`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .operations import DEFAULTS_OF, EMPTY, OURS
from .seed import MOST_WITH_INDEXES

Results = dict[str, Any]

START = "<!-- table: {} -->"
END = "<!-- end of table -->"

PARTS = {"server": "", "defaults": ", Django's default options"}
"""What is measured through a web server, and how the rows of ratios end."""

COMPARED, MANY = 8, 32
"""Numbers of connections."""


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
        "ratios": ratios(results),
        "in process": in_process(results),
        "server": server(results),
        "defaults": server(results, "defaults"),
        "provider": provider(results),
        "prune": prune(results),
        "imports": imports(results),
        "bytes": sizes(results),
        "indexes": indexes(results),
    }


def machine(results: Results) -> str:
    return table(["", ""], results["machine"].items())


def ratios(results: Results) -> str:
    """Compare what was measured in one run."""
    sizes = sorted(results["sizes"], key=int)
    rows = []
    for size in sizes:
        found = results["sizes"][size]
        for name, (part, options) in itertools.product(DEFAULTS_OF, PARTS.items()):
            rates = {
                row["package"]: row["per_second"]["median"]
                for row in found.get(part, ())
                if row["operation"] == name and row["connections"] == COMPARED
            }
            mine = rates.pop(OURS, 0)
            if rates:
                what = f"{name}, {thousands(size)} calls: per second, to the fastest other package"
                rows.append([what + options, mine / max(rates.values())])
    first, last = (results["sizes"][size] for size in (sizes[0], sizes[-1]))
    for name in DEFAULTS_OF:
        others = [
            row["wall_ms"]["p50"]
            for row in last["in_process"]
            if row["operation"] == name and row["package"] not in (OURS, EMPTY)
        ]
        what = f"{name}, {thousands(sizes[-1])} calls: p50 of the fastest other package, to ours"
        rows.append([what, min(others) / wall(last, name, "p50")])
    for percentile in ("p50", "p99"):
        grown = {
            name: wall(last, name, percentile) / wall(first, name, percentile)
            for name in (row["operation"] for row in first["in_process"] if row["package"] == OURS)
        }
        name = max(grown, key=grown.__getitem__)
        what = f"{thousands(sizes[-1])} calls to {thousands(sizes[0])}: {percentile} of {name}, "
        rows.append([f"{what}which grows most", grown[name]])
    for place in ("in the busy range", "from the busy address"):
        ratio = wall(last, f"start {place}", "p50") / wall(last, "start", "p50")
        rows.append([f"start {place}: p50, to another one", ratio])
    for size in sizes:
        rates = {
            row["connections"]: row["per_second"]["median"]
            for row in results["sizes"][size].get("server", ())
            if row["package"] == OURS and row["operation"] == "start"
        }
        if {COMPARED, MANY} <= rates.keys():
            what = f"start, {thousands(size)} calls: per second, {MANY} connections to {COMPARED}"
            rows.append([what, rates[MANY] / rates[COMPARED]])
    ours, bare, new, anew = (row["wall_ms"]["p50"] for row in results["provider"])
    rows.append(["the app's backend: calls per second, to a new connection for each", new / ours])
    rows.append(["the app's backend: calls per second, to requests.post", anew / ours])
    rows.append(["the app's backend: calls per second, to a bare requests.Session", bare / ours])
    return table(["what", "ratio"], ([what, f"{ratio:.2f}"] for what, ratio in rows))


def wall(found: Results, operation: str, percentile: str) -> float:
    """Return the milliseconds of one of our operations in process."""
    for row in found["in_process"]:
        if row["package"] == OURS and row["operation"] == operation:
            return float(row["wall_ms"][percentile])
    raise KeyError(operation)


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


def server(results: Results, part: str = "server") -> str:
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
            for row in found.get(part, ())
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
