from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FlashcallConfig(AppConfig):
    name = "django_flashcall"
    verbose_name = _("Phone verification")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers the system checks)
