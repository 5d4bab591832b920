"""Reasons why a call was not delivered, with labels and advice for people.

A backend translates the provider's error numbers to these reasons. An unlisted number becomes
``unknown``; the number itself is stored as well.
"""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Reason(NamedTuple):
    """The label of a reason, and what the visitor can do next."""

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
        _("provider refused the request"),
        _("We can't call you right now. Please try again in a few minutes."),
    ),
}


def label(error_code: str) -> str:
    """Return the label of a reason, or the code itself if it is not listed."""
    reason = REASONS.get(error_code)
    return str(reason.label) if reason else error_code


def advice(error_code: str) -> str:
    """Return what a visitor can do about a failed call; '' if there is no error."""
    if not error_code:
        return ""
    return str(REASONS.get(error_code, REASONS["unknown"]).advice)
