"""Signals that a site can connect to. All are sent after what they tell of is committed.

A receiver that raises is logged and undoes nothing. None carries a code.
"""

from django.dispatch import Signal

__all__ = [
    "budget_spent",
    "call_failed",
    "call_placed",
    "delivery_reported",
    "fraud_suspected",
    "phone_redeemed",
    "phone_verified",
    "provider_trouble",
    "wrong_codes_rise",
]

call_placed = Signal()
"""A call was placed, or may have been. ``sender`` is `Call`, ``call`` the row."""

call_failed = Signal()
"""A call was not placed. ``call`` is the row, ``error`` the `exceptions.ProviderError`."""

provider_trouble = Signal()
"""The site's operator must mend something, or no call is placed: credentials, address, account.

Sent once per cause and ten minutes, as it is logged. ``sender`` is `Call`, ``call`` the row,
``error`` the `exceptions.Misconfigured`."""

budget_spent = Signal()
"""50, 80 or 100 % of ``CALLS_TOTAL`` are spent: each is told once a day.

``sender`` is `Refusal`; ``share`` in percent, ``spent`` and ``limit`` in calls."""

fraud_suspected = Signal()
"""The fraud guard refuses, or only suspects; each range and address is told once a day.

``sender`` is `GuardDecision`, ``decision`` the row with its figures."""

wrong_codes_rise = Signal()
"""Far more wrong codes than usual, site-wide. ``wrong`` of the last day, ``usual`` of a day."""

delivery_reported = Signal()
"""The provider said what became of a call; each outcome of a call is told once, in any order.

``sender`` is `Call`, ``call`` the row as it is now, ``report`` the `DeliveryReport`."""

phone_verified = Signal()
"""The right code was typed. ``sender`` is `Verification`, ``verification`` the row."""

phone_redeemed = Signal()
"""A token was redeemed. ``sender`` is `Phone`; ``phone``, ``user`` or None, ``verification``."""
