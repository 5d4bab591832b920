from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

__all__ = ["FlashcallOTPConfig"]


class FlashcallOTPConfig(AppConfig):
    name = "django_flashcall.contrib.otp"
    label = "flashcall_otp"
    verbose_name = _("Calls as a second factor")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if not apps.is_installed("django_otp"):
            raise ImproperlyConfigured(
                f"{self.name} needs django-otp: run `pip install 'django-flashcall[otp]'`, and add "
                "'django_otp' to INSTALLED_APPS."
            )
        from . import checks  # noqa: F401  (registers the system checks)
