"""The words for calls on the pages of django-two-factor-auth, which knows only spoken codes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from two_factor.plugins.phonenumber.method import PhoneCallMethod
from two_factor.plugins.registry import registry

from . import visits
from .gateways import FlashCall


def is_ours() -> bool:
    """Return True if the site's gateway for calls is ours, or a subclass of it."""
    try:
        gateway = import_string(getattr(settings, "TWO_FACTOR_CALL_GATEWAY", None) or "")
    except ImportError:
        return False
    return isinstance(gateway, type) and issubclass(gateway, FlashCall)


def hint() -> str:
    """Return where to find the code."""
    return _("You don't need to answer: the code is the last 6 digits of the number that calls.")


class FlashCallMethod(PhoneCallMethod):
    """The method ``call``, with words for flash calls."""

    def get_verbose_action(self, device: Any) -> str:
        visit = visits.current()
        if visit is not None and visit.error is not None:
            return ""  # the form shows the error
        if visit is not None and visit.is_called:
            return _("We're calling you. %(hint)s") % {"hint": hint()}
        return hint()  # after a wrong code; or the package's throttle allowed no call


def register(**kwargs: Any) -> None:
    """Replace the package's own method if the site uses our gateway, also in a site's tests."""
    registry.unregister(FlashCallMethod.code)
    if is_ours():
        registry.register(FlashCallMethod())
    elif getattr(settings, "TWO_FACTOR_CALL_GATEWAY", None):
        registry.register(PhoneCallMethod())
