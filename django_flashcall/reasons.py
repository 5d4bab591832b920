"""Why a call was not delivered: our words of ``call.error_code``, put for people."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

WORDS: dict[str, tuple[str | Promise, str | Promise]] = {
    "busy": (
        _("The line was busy"),
        _("Your line was busy. End the other call, then ask for another one."),
    ),
    "absent_subscriber": (
        _("Switched off or out of reach"),
        _("Your phone is switched off or out of reach. Check it, then ask for another call."),
    ),
    "not_provisioned": (
        _("The number takes no such calls"),
        _("Your number does not take such calls. Try another way of calling or another number."),
    ),
    "failure": (
        _("The call failed"),
        _("The call did not get through. Ask for another one."),
    ),
    "unknown": (
        _("Not delivered"),
        _("The call did not get through. Ask for another one."),
    ),
}
"""Code → what it is called, and what the person in front of the form can do."""


def label(error_code: str) -> str | Promise:
    """Return what a reason is called; the code itself where there are no words for it."""
    return WORDS[error_code][0] if error_code in WORDS else error_code


def advice(error_code: str) -> str | Promise:
    """Return what the person can do about a call that was not delivered."""
    return WORDS.get(error_code, WORDS["unknown"])[1]
