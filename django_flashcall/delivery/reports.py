"""Store the delivery reports of providers."""

from __future__ import annotations

import logging
from copy import copy
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, router, transaction
from django.db.models import Case, F, Field, Q, Value, When
from django.utils import timezone

from .. import signals
from ..backends import Report
from ..database_errors import transact
from ..models import Call, DeliveryReport
from ..prepared.writes import PreparedInsert, PreparedUpdate, execute_all
from ..protection import limits

logger = logging.getLogger("django_flashcall")

Status = Call.Status

FORWARDS = (
    Status.REJECTED,
    Status.QUEUED,
    Status.UNKNOWN,
    Status.SENT,
    Status.UNDELIVERED,
    Status.DELIVERED,
)
"""The statuses of a call in order. A report only moves it forwards, and overrides a rejection."""

REPORTED = ("error_code", "provider_code", "mcc_mnc", "price")
"""What a report says about a call, besides the outcome."""


def record_report(report: Report) -> Call | None:
    """Store a delivery report and update its call. Reports may arrive repeatedly and in any order.

    A report only moves the call's status forwards. It does not verify the number or refund any
    limit. Uses the caller's transaction. Without one, it is run again after a deadlock or a
    serialization failure.

    Args:
        report: a report parsed by a backend.

    Returns:
        the updated call, or None if the call is unknown.
    """
    call = _find(report)
    if call is None:
        logger.info(
            "Delivery report for a call that is not known.",
            extra={"backend": report.backend, "outcome": report.outcome},
        )
        return None
    stored = _store_at_once(call, report)
    return stored or transact(partial(_store, call, report), router.db_for_write(Call))


def _store(found: Call, report: Report) -> Call | None:
    """Update a call and create the row of a report, in the caller's transaction."""
    call = copy(found)  # a retry must not see what was rolled back
    rejected = Call.objects.filter(pk=call.pk, status=Status.REJECTED)
    can_be = found.status in (Status.REJECTED, Status.QUEUED, Status.UNKNOWN)
    was_placed = can_be and bool(rejected.update(status=Status.UNKNOWN))
    if not _update_call(call, report):
        return None  # erased or pruned in the meantime
    call.refresh_from_db(fields=["status", *REPORTED], using=router.db_for_write(Call))
    row = _row(call, report)
    if _INSERT.execute(row):  # else, this outcome is already stored
        _announce(call, row)
    if was_placed:
        limits.count_call(call)
    return call


def _row(call: Call, report: Report) -> DeliveryReport:
    row = DeliveryReport(call=call, outcome=report.outcome)
    for name in REPORTED:
        setattr(row, name, getattr(report, name))
    row.submitted_at, row.done_at = map(_as_stored, (report.submitted_at, report.done_at))
    return row


def _as_stored(time: datetime | None) -> datetime | None:
    """Return a time as the site stores it: with ``USE_TZ``, it has a time zone."""
    if time is None or timezone.is_aware(time) == settings.USE_TZ:
        return time
    return timezone.make_aware(time) if settings.USE_TZ else timezone.make_naive(time)


def _announce(call: Call, row: DeliveryReport) -> None:
    transaction.on_commit(
        partial(signals.delivery_reported.send_robust, Call, call=call, report=row),
        using=router.db_for_write(Call),
    )


_INSERT = PreparedInsert(DeliveryReport, ignore_conflicts=True)


def _find(report: Report) -> Call | None:
    """Return the call by our identifier, or by the provider's for this backend, or None."""
    calls = Call.objects.using(router.db_for_write(Call))
    try:
        call = calls.filter(reference=UUID(report.reference)).first()
    except ValueError:
        call = None
    if call is None and report.provider_id:
        found = calls.filter(provider_id=report.provider_id, backend=report.backend)
        call = found.order_by("-pk").first()
    return call


def _store_at_once(found: Call, report: Report) -> Call | None:
    """Do what `_store` does, if no other report changed the call since it was found; else nothing.

    For most reports: what the row then contains is known, and not read again.
    """
    connection = connections[router.db_for_write(Call)]
    if not (connection.in_atomic_block or connection.get_autocommit()):
        return None  # Django has no `on_commit` then
    call = copy(found)
    outcome = Status(report.outcome)
    ahead = FORWARDS.index(outcome) - FORWARDS.index(Status(call.status))
    if call.status == Status.REJECTED or ahead < 0:
        return None
    # A backend of a site may give a price as text.
    changes = {name: _field(name).to_python(getattr(report, name)) for name in REPORTED}
    if not ahead:
        del changes["error_code"], changes["provider_code"]
    for name in ("mcc_mnc", "price"):
        if changes[name] in ("", None):  # an earlier report may have said it
            del changes[name]
    changes["status"] = outcome
    seen = {f"seen_{name}": getattr(call, name) for name in SEEN}
    for name, value in changes.items():
        setattr(call, name, value)
    row = _row(call, report)
    update = _UPDATE.bind(pk=call.pk, **seen, **changes)
    written = execute_all(update, _INSERT.bind(row))
    if not written:
        return None
    if written[-1]:
        _announce(call, row)
    return call


SEEN = ("status", "mcc_mnc", "price")
"""What of a call decides about a report."""


def _changes(*, pk: Any, **values: Any) -> tuple[Any, dict[str, Any]]:
    seen = {name: values.pop(f"seen_{name}") for name in SEEN}
    return Call.objects.filter(pk=pk, **seen), values


_UPDATE = PreparedUpdate(Call, _changes)


def _update_call(call: Call, report: Report) -> bool:
    """Update the call in one statement, so that it sees the changes of concurrent reports.

    Return False if it does not exist any more.

    It must be the first statement of the transaction, so that reports for a call take turns.
    Operator and price are those of the furthest outcome that contains them.
    """
    place = FORWARDS.index(Status(report.outcome))
    behind, reached = Q(status__in=FORWARDS[:place]), Q(status__in=FORWARDS[: place + 1])
    changes: dict[str, tuple[Q, Any]] = {
        "error_code": (behind, report.error_code),
        "provider_code": (behind, report.provider_code),
    }
    if report.mcc_mnc:
        changes["mcc_mnc"] = (reached | Q(mcc_mnc=""), report.mcc_mnc)
    if report.price is not None:
        changes["price"] = (reached | Q(price=None), report.price)
    # The status must be last: in MySQL, conditions see values assigned before them.
    changes["status"] = (behind, report.outcome)
    found = Call.objects.filter(pk=call.pk).update(
        **{
            name: Case(
                When(condition, then=Value(value, output_field=_field(name))),
                default=F(name),
            )
            for name, (condition, value) in changes.items()
        }
    )
    return bool(found)


def _field(name: str) -> Field[Any, Any]:
    field = Call._meta.get_field(name)
    assert isinstance(field, Field)  # noqa: S101 - for the type checker
    return field
