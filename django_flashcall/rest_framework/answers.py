"""Responses to a login by phone, for ``ANSWER`` of ``LOGIN``.

Each is a ``callable(request, user)`` that returns the body of the response as a dictionary, or the
whole response.
"""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

__all__ = ["drf_token", "jwt"]


def drf_token(request: Request, user: Any) -> dict[str, Any]:
    """Return the user's token of Django REST framework: ``{"token"}``.

    Needs ``rest_framework.authtoken`` in ``INSTALLED_APPS``.
    """
    from rest_framework.authtoken.models import Token

    return {"token": Token.objects.get_or_create(user=user)[0].key}


def jwt(request: Request, user: Any) -> dict[str, Any]:
    """Return a pair of new tokens of djangorestframework-simplejwt: ``{"refresh", "access"}``.

    They are those of your ``TOKEN_OBTAIN_SERIALIZER``, with its claims; a sliding token is
    ``{"token"}``. Needs the extra ``jwt``.
    """
    from django.contrib.auth.models import update_last_login
    from django.utils.module_loading import import_string
    from rest_framework_simplejwt.settings import api_settings

    token = import_string(api_settings.TOKEN_OBTAIN_SERIALIZER).get_token(user)
    if api_settings.UPDATE_LAST_LOGIN:
        update_last_login(None, user)  # type: ignore[arg-type]
    if hasattr(token, "access_token"):
        return {"refresh": str(token), "access": str(token.access_token)}
    return {"token": str(token)}
