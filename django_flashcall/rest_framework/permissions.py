"""Permissions for a site's own API views."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from ..models import Phone


class HasVerifiedPhone(BasePermission):
    """Lets those in whose account has a verified phone number."""

    message = _("Verify your phone number first.")
    code = "phone_not_verified"

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        return bool(user and user.is_authenticated) and Phone.objects.filter(owner=user.pk).exists()
