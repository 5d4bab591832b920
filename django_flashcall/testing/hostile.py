"""Hostile delivery reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..backends import WebhookRequest

VALUES: tuple[Any, ...] = (
    *("", "\x00", "\ud800", "٤", "-1", "9" * 5000, "x" * 65, "1e999", "NaN", "<script>", "../"),
    *(None, True, -1, 10**40, 1e400, [], {}, ["x"], {"x": 1}),
)
"""Hostile values for the fields of a report."""

BODIES = (
    *(b"", b"\x00", b"\xff\xfe", b"null", b"[]", b"{}", b'"x"', b"<html>", b"[" * 60_000),
    *(b'{"a":' * 10_000, b"9" * 60_000, b'{"status": ' + b"9" * 5000 + b"}"),
)


def reports(genuine: WebhookRequest) -> Iterator[WebhookRequest]:
    """Yield copies of a genuine report, each with one value missing or hostile."""
    for name in genuine.query:
        rest = {k: v for k, v in genuine.query.items() if k != name}
        yield replace(genuine, query=rest)
        for value in VALUES:
            if isinstance(value, str):
                yield replace(genuine, query={**rest, name: value})
    try:
        content = json.loads(genuine.body)
    except ValueError:
        return
    if isinstance(content, dict):
        for name in content:
            yield replace(genuine, body=_dumps({k: v for k, v in content.items() if k != name}))
            for value in VALUES:
                yield replace(genuine, body=_dumps({**content, name: value}))


def _dumps(content: object) -> bytes:
    return json.dumps(content).encode()
