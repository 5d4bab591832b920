from django.apps import AppConfig
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _

__all__ = ["FlashcallAllauthConfig"]


class FlashcallAllauthConfig(AppConfig):
    name = "django_flashcall.contrib.allauth"
    label = "django_flashcall_allauth"
    verbose_name = _("Phone verification with django-allauth")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ...models import Phone
        from . import checks, models, workarounds  # noqa: F401  (registers the system checks)

        workarounds.apply()
        post_delete.connect(models.forget, sender=Phone, dispatch_uid=self.label)
