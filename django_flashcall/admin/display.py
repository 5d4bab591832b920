"""Labels for the admin: statuses with a colour, channels, failure reasons, operators."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

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
"""The colour of each status. It only repeats what the label says."""


def call_status(status: str) -> str:
    """Return the status of a call, or the outcome of a delivery report, as a badge."""
    return badge(TONES[status], Call.Status(status).label)


def verification_status(status: str) -> str:
    """Return the status of a verification, including ``expired``, as a badge."""
    return badge(TONES[status], status_name(status))


def status_name(status: str) -> str:
    """Return the label of the status of a verification, including ``expired``."""
    if status == Verification.EXPIRED:
        return pgettext("verification", "expired")
    return str(Verification.State(status).label)


def channel_name(name: str) -> str:
    """Return the label of a channel, or the stored value if the channel is unknown."""
    return str(Channel(name).label) if name in Channel.values else name


def reason(row: Call | DeliveryReport) -> str:
    """Return why a call failed, with the provider's error code if the reason is unknown."""
    label = reasons.label(row.error_code)
    if row.error_code == "unknown" and row.provider_code is not None:
        return _("%(reason)s (%(code)s)") % {"reason": label, "code": row.provider_code}
    return label


def operator_name(row: Call | DeliveryReport) -> str:
    """Return the name of the mobile operator, or its MCC and MNC if the name is unknown."""
    return operators.name(row.mcc_mnc)
