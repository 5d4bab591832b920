"""How rows are told to people: states with a colour and a word, reasons, networks, links."""

from __future__ import annotations

from django.utils.translation import gettext as _

from ..delivery import reasons
from ..insight import operators
from ..models import Call, Channel, DeliveryReport, Verification
from .base import badge

TONES = {
    Call.Status.QUEUED: "quiet",
    Call.Status.UNKNOWN: "doubt",
    Call.Status.SENT: "under-way",
    Call.Status.DELIVERED: "good",
    Call.Status.UNDELIVERED: "bad",
    Call.Status.REJECTED: "refused",
    Verification.State.PENDING: "under-way",
    Verification.State.VERIFIED: "good",
    Verification.State.REDEEMED: "good",
    Verification.State.FAILED: "bad",
    Verification.State.CANCELLED: "quiet",
    Verification.EXPIRED: "quiet",
}
"""A colour for each state; the word beside it says the same."""


def call_status(status: str) -> str:
    """The state of a call, or the outcome of a report."""
    return badge(TONES[status], Call.Status(status).label)


def verification_status(status: str) -> str:
    """The state of a verification, the one that the clock tells included."""
    word = _("expired") if status == Verification.EXPIRED else Verification.State(status).label
    return badge(TONES[status], word)


def channel(name: str) -> str:
    """The channel's name; the word itself where we have none."""
    return str(Channel(name).label) if name in Channel.values else name


def reason(row: Call | DeliveryReport) -> str:
    """Why a call did not arrive, in words; the provider's number where our word says nothing."""
    words = reasons.label(row.error_code)
    if row.error_code == "unknown" and row.provider_code is not None:
        return _("%(reason)s (%(code)s)") % {"reason": words, "code": row.provider_code}
    return words


def network(row: Call | DeliveryReport) -> str:
    """The subscriber's network: its name where known, else its code."""
    return operators.name(row.mcc_mnc)
