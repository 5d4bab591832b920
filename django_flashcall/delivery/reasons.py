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
        _("line busy"),
        _("Your line was busy. End any other call, then request another one."),
    ),
    "absent_subscriber": Reason(
        _("phone off or out of coverage"),
        _(
            "Your phone is off or has no signal. "
            "Turn it on, wait for a signal, then request another call."
        ),
    ),
    "not_provisioned": Reason(
        _("number can't receive these calls"),
        _("This number can't receive these calls. Try another number."),
    ),
    "failure": Reason(
        _("network failure"),
        _("The call didn't go through. Request another one."),
    ),
    "unknown": Reason(
        _("not delivered, reason unknown"),
        _("The call didn't go through. Check the number or request another call."),
    ),
    "invalid_destination": Reason(
        _("number rejected by the provider"),
        _("Check the number and try again."),
    ),
    "duplicate_call": Reason(
        _("rejected as a duplicate"),
        _("Wait a minute, then request another call."),
    ),
    "provider_unavailable": Reason(
        _("provider unavailable"),
        _("We can't call you right now. Please try again in a few minutes."),
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
