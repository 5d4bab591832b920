"""The box that says how the providers do, and what the operator must mend."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ..insight import health
from ..models import Call
from .base import badge, conceal, may, moment
from .display import channel


def told(request: HttpRequest) -> dict[str, Any]:
    """What the box says to a visitor: nothing, unless they may see calls."""
    if not (may(request, "view_call") or may(request, "change_call")):
        return {}
    return {
        "backends": [_told(request, backend) for backend in health.backends()],
        "stopped": [channel(name) for name in health.stopped_channels()],
    }


def _told(request: HttpRequest, backend: health.Health) -> dict[str, Any]:
    return {
        "backend": backend.backend,
        "state": _state(backend),
        "success_at": _moment(backend.success),
        "trouble": backend.trouble,
        "trouble_at": _moment(backend.trouble),
        "trouble_words": _words(request, backend.trouble),
        "to_mend": backend.to_mend,
        "to_mend_at": _moment(backend.to_mend),
        "to_mend_words": _words(request, backend.to_mend),
    }


def _state(backend: health.Health) -> str:
    if backend.to_mend:
        return badge("refused", _("needs attention"))
    if backend.success is None:
        return badge("doubt", _("failing")) if backend.trouble else badge("quiet", _("not used"))
    if backend.trouble and backend.trouble.created_at > backend.success.created_at:
        return badge("doubt", _("failing"))
    return badge("good", _("healthy"))


def _moment(call: Call | None) -> str:
    return moment(call.created_at if call else None)


def _words(request: HttpRequest, call: Call | None) -> str:
    if call is None:
        return ""
    words = call.provider_message
    return words if may(request, "view_number") else conceal(words)
