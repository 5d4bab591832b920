from typing import Any

from django import template

from ..screen import screen

register = template.Library()


@register.inclusion_tag("virtual_phone/phone.html")
def virtual_phone() -> dict[str, Any]:
    """Render the virtual phone, for any page."""
    return screen()
