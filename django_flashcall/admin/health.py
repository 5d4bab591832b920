"""The provider health box of the admin: the state of each backend, and what needs attention."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ..insight import health
from ..models import Call
from .base import badge, format_datetime, mask_numbers, may
from .display import channel_name


def health_context(request: HttpRequest) -> dict[str, Any]:
    """Return the template context of the box; empty if the user may not see calls."""
    if not (may(request, "view_call") or may(request, "change_call")):
        return {}
    return {
        "backends": [_backend_context(request, backend) for backend in health.backends()],
        "stopped": [channel_name(name) for name in health.stopped_channels()],
    }


def _backend_context(request: HttpRequest, backend: health.Health) -> dict[str, Any]:
    return {
        "backend": backend.backend,
        "state": _state(backend),
        "success_at": _time(backend.success),
        "trouble": backend.trouble,
        "trouble_at": _time(backend.trouble),
        "trouble_message": _message(request, backend.trouble),
        "needs_attention": backend.needs_attention,
        "needs_attention_at": _time(backend.needs_attention),
        "needs_attention_message": _message(request, backend.needs_attention),
    }


def _state(backend: health.Health) -> str:
    if backend.needs_attention:
        return badge("refused", _("needs attention"))
    success, trouble = backend.success, backend.trouble
    if trouble and (success is None or trouble.created_at > success.created_at):
        return badge("doubt", _("failing"))
    if success is None:
        return badge("quiet", _("no calls yet"))
    return badge("good", _("healthy"))


def _time(call: Call | None) -> str:
    return format_datetime(call.created_at if call else None)


def _message(request: HttpRequest, call: Call | None) -> str:
    if call is None:
        return ""
    message = call.provider_message
    return message if may(request, "view_number") else mask_numbers(message)
