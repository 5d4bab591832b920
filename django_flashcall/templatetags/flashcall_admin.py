"""For templates of the admin: how the providers do, and what an operator must mend."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context

from ..admin.health import told

register = template.Library()


@register.inclusion_tag("admin/django_flashcall/health.html", takes_context=True)
def flashcall_health(context: Context) -> dict[str, Any]:
    """Show the health of all backends, to those who may see calls.

    It stands on the index of this app; a site may put it on any page of its admin that has
    ``django_flashcall/admin.css``.
    """
    request = context.get("request")
    return told(request) if request is not None else {}
