"""Why a call did not arrive: our words for programs, and for people what happened and what to do.

The provider's numbers become these words at the border, in its backend; every number that we have
no word for becomes ``unknown``, and the number is kept beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Reason(NamedTuple):
    """What a reason is called, and what the person can do next."""

    label: str | Promise
    advice: str | Promise


REASONS = {
    "busy": Reason(
        _("the line was busy"),
        _("The line was busy. End any conversation on this phone, then ask for another call."),
    ),
    "absent_subscriber": Reason(
        _("switched off or out of reach"),
        _(
            "The phone is switched off or out of reach. "
            "Switch it on, wait until it finds its network, then ask for another call."
        ),
    ),
    "not_provisioned": Reason(
        _("the number takes no such calls"),
        _("This number does not take such calls. Try another number."),
    ),
    "failure": Reason(
        _("the network failed"),
        _("The call did not get through. Ask for another one."),
    ),
    "unknown": Reason(
        _("not delivered, the reason is unknown"),
        _("The call did not get through. Ask for another one, or check the number."),
    ),
    "invalid_destination": Reason(
        _("the provider does not know the number"),
        _("Check that the number is written correctly."),
    ),
    "duplicate_call": Reason(
        _("the provider took it for a repeat"),
        _("Wait a little, then ask for another call."),
    ),
    "provider_unavailable": Reason(
        _("the provider could not place it"),
        _("Calls cannot be placed at the moment. Try again in a few minutes."),
    ),
}


def label(error_code: str) -> str:
    """Return the short words for a reason; the code itself where there are none, '' for none."""
    reason = REASONS.get(error_code)
    return str(reason.label) if reason else error_code


def advice(error_code: str) -> str:
    """Return what a person can do about a call that did not arrive; '' where nothing is wrong."""
    if not error_code:
        return ""
    return str(REASONS.get(error_code, REASONS["unknown"]).advice)
