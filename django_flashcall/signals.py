"""Signals that a site can connect to. They are sent after the change is committed.

Errors in receivers are logged and undo nothing. No signal contains a code.
"""

from django.dispatch import Signal

__all__ = [
    "backend_paused",
    "backend_resumed",
    "budget_spent",
    "call_failed",
    "call_placed",
    "delivery_reported",
    "fraud_suspected",
    "phone_changed",
    "phone_reassigned",
    "phone_redeemed",
    "phone_verified",
    "provider_trouble",
    "request_blocked",
    "verification_started",
    "wrong_codes_rise",
]

verification_started = Signal()
"""A verification was started; its first call is placed next.

``sender`` is `Verification`, ``verification`` the row."""

request_blocked = Signal()
"""A limit, a rule, the fraud guard or a paused backend blocked a request for a call or a check.

``sender`` is `Refusal`, ``error`` the `exceptions.FlashcallError` with ``scope`` and
``error_code``. The values of ``scope`` are in `Refusal.Scope`."""

call_placed = Signal()
"""A call was placed, or may have been. ``sender`` is `Call`, ``call`` is the row.

``error`` is the `exceptions.ProviderError` if the outcome is unknown, else None. ``duration`` says
for how many seconds the backend was asked; None if it was not."""

call_failed = Signal()
"""A call was not placed. ``call`` is the row, ``error`` the `exceptions.ProviderError`.

``duration`` is as for ``call_placed``. Each backend that failed is sent once."""

provider_trouble = Signal()
"""No call can be placed until the credentials, IP address or account are fixed.

Sent and logged at most once in ten minutes per cause, by each process of the site. ``sender`` is
`Call`, ``call`` the row, ``error`` the `exceptions.Misconfigured`."""

backend_paused = Signal()
"""``BREAKER_FAILURES`` calls in a row failed: no calls go through this backend for a while.

``sender`` is `CircuitBreaker`, ``breaker`` the row with the reason and the time of the next try."""

backend_resumed = Signal()
"""A call went through a paused backend, or somebody resumed it. ``breaker`` is the row."""

budget_spent = Signal()
"""50, 80 or 100 % of the calls that strangers can use are spent. Each level is sent once a day.

Those are ``CALLS_TOTAL`` less the twentieth that is kept for owners and known devices.

``sender`` is `Refusal`; ``share`` in percent, ``spent`` and ``limit`` in calls."""

fraud_suspected = Signal()
"""The fraud guard refuses or suspects calls. Sent once a day for each range, address, country and
operator.

``sender`` is `GuardDecision`, ``decision`` the row with its counts."""

wrong_codes_rise = Signal()
"""There are far more wrong codes than usual, site-wide.

``sender`` is `Attempt`, ``wrong`` the count of the last day, ``usual`` the daily average."""

delivery_reported = Signal()
"""A delivery report was stored. Each outcome of a call is sent once, in any order.

``sender`` is `Call`, ``call`` the updated row, ``report`` the `DeliveryReport`."""

phone_verified = Signal()
"""The right code was entered. ``sender`` is `Verification`, ``verification`` the row."""

phone_changed = Signal()
"""A user changed or removed their number. Tell the owner of the former one, by SMS or e-mail.

``sender`` is `Phone`; ``user``, ``former_phone``, and ``phone``, None if it was removed."""

phone_reassigned = Signal()
"""A number moved from one account to another, as ``REASSIGNED_NUMBERS`` allows.

``sender`` is `Phone`; ``phone``, ``user``, and ``former_owner``, whose account keeps all else."""

phone_redeemed = Signal()
"""A token was redeemed. ``user`` is None if no account got the number.

``sender`` is `Phone`; the others are ``phone`` and ``verification``."""
