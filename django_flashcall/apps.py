from importlib import import_module

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _

__all__ = ["FlashcallConfig"]


class FlashcallConfig(AppConfig):
    name = "django_flashcall"
    verbose_name = _("Phone verification")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers the system checks)

        if apps.is_installed("drf_spectacular"):
            # Import by name: the app works without drf-spectacular and Django REST framework.
            import_module(f"{self.name}.rest_framework.openapi")
