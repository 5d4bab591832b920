"""Template tags for the admin: provider health and what needs attention."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context

register = template.Library()


@register.inclusion_tag("admin/django_flashcall/health.html", takes_context=True)
def flashcall_health(context: Context) -> dict[str, Any]:
    """Show the health of all backends to users who may view calls.

    It is on the index page of this app. You can add it to any admin page that loads
    ``django_flashcall/admin.css``.
    """
    from ..admin.health import health_context  # needs the admin

    request = context.get("request")
    return health_context(request) if request is not None else {}
