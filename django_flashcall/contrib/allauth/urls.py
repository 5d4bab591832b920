"""allauth's URLs for sites with ``ATOMIC_REQUESTS``."""

from __future__ import annotations

from typing import Any

from django.urls import URLResolver, include

from ...decorators import non_atomic

__all__ = ["non_atomic_include"]


def non_atomic_include(module: str) -> Any:
    """Include URLs like `django.urls.include`, but run their views outside of transactions.

    An error response would otherwise undo what the limits have counted.

    Args:
        module: ``"allauth.urls"`` or ``"allauth.headless.urls"``.
    """
    included: Any = include(module)
    _exempt(included[0].urlpatterns)
    return included


def _exempt(patterns: Any) -> None:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            _exempt(pattern.url_patterns)
        else:
            non_atomic(pattern.callback)
