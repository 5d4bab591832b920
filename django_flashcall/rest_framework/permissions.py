"""Permissions for your own API views."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from .. import services

__all__ = ["HasVerifiedPhone"]


class HasVerifiedPhone(BasePermission):
    """Allow users with a verified phone number.

    Attributes:
        max_age_days: days since the user verified it; None for any time. Set it in a subclass.
    """

    max_age_days: int | None = None

    message = _("Verify your phone number first.")
    code = "phone_not_verified"

    def has_permission(self, request: Request, view: APIView) -> bool:
        return services.has_verified_phone(request.user, max_age_days=self.max_age_days)
