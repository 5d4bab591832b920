"""The provider health box of the admin: the state of each backend, and what needs attention."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import reverse
from django.utils.translation import gettext as _

from ..conf import conf
from ..insight import health
from ..models import Call, CircuitBreaker
from ..verification import breaker
from .base import HistoryAdmin, badge, format_datetime, log, mask_numbers, may
from .display import channel_name


def health_context(request: HttpRequest) -> dict[str, Any]:
    """Return the template context of the box; empty if the user may not see calls."""
    if not (may(request, "view_call") or may(request, "change_call")):
        return {}
    return {
        "backends": [_backend_context(request, backend) for backend in health.backends()],
        "may_resume": may(request, "place_test_call"),
        "stopped": [channel_name(name) for name in health.stopped_channels()],
    }


def _backend_context(request: HttpRequest, backend: health.Health) -> dict[str, Any]:
    paused = backend.paused
    return {
        "backend": backend.backend,
        "paused": paused,
        "paused_since": format_datetime(paused.opened_at if paused else None),
        "next_try_at": format_datetime(paused.next_try_at if paused else None),
        "paused_reason": _text(request, paused.reason if paused else ""),
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
    if backend.paused:
        return badge("refused", _("paused"))
    success, trouble = backend.success, backend.trouble
    if trouble and (success is None or trouble.created_at > success.created_at):
        return badge("doubt", _("failing"))
    if success is None:
        return badge("quiet", _("no calls yet"))
    return badge("good", _("healthy"))


def _time(call: Call | None) -> str:
    return format_datetime(call.created_at if call else None)


def _message(request: HttpRequest, call: Call | None) -> str:
    return _text(request, call.provider_message if call else "")


def _text(request: HttpRequest, message: str) -> str:
    return message if may(request, "view_number") else mask_numbers(message)


def resume(admin: HistoryAdmin, request: HttpRequest, alias: str) -> HttpResponse:
    """Let calls go through a paused backend again, and return to the list of calls."""
    if not (may(request, "place_test_call") and admin.has_view_permission(request)):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if alias not in conf.BACKENDS:
        raise Http404
    if breaker.resume(alias):
        text = _("Calls go through “%s” again.") % alias
        log(request, CircuitBreaker.objects.get(backend=alias), CHANGE, text, alias)
        messages.success(request, text)
    name = "admin:django_flashcall_call_changelist"
    return HttpResponseRedirect(reverse(name, current_app=admin.admin_site.name))
