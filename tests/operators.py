"""Who works in the admin, with which permissions, and what they look at."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

VIEW = ("view_call", "view_phone", "view_verification", "view_rule")


def operator(*permissions: str, name: str = "operator") -> Client:
    """Log in somebody of the staff who has these permissions, and no others."""
    user = get_user_model().objects.create_user(username=name, is_staff=True)
    found = Permission.objects.filter(
        content_type__app_label="django_flashcall", codename__in=permissions
    )
    assert found.count() == len(set(permissions)), permissions
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def url(name: str, *args: Any) -> str:
    """The address of a page: ``call``, ``phone`` … is a list, ``call_statistics`` a page."""
    if args:
        name += "_change"
    elif "_" not in name:
        name += "_changelist"
    return reverse(f"admin:django_flashcall_{name}", args=args)


def listed(client: Client, name: str, **query: Any) -> list[Any]:
    """The rows that a list shows."""
    response = client.get(url(name), query)
    assert response.status_code == 200, (query, response.status_code)
    return list(response.context["cl"].result_list)
