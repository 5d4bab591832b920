from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.translation import gettext_lazy as _

__all__ = ["FlashcallTwoFactorConfig"]


class FlashcallTwoFactorConfig(AppConfig):
    name = "django_flashcall.contrib.two_factor"
    label = "flashcall_two_factor"
    verbose_name = _("Calls of django-two-factor-auth")

    def ready(self) -> None:
        for name in ("two_factor", "two_factor.plugins.phonenumber"):
            if not apps.is_installed(name):
                raise ImproperlyConfigured(
                    f"{self.name} needs django-two-factor-auth: run "
                    f"`pip install 'django-flashcall[two-factor]'`, and add '{name}' to "
                    "INSTALLED_APPS."
                )
        from . import (
            checks,  # noqa: F401  (registers the system checks)
            receivers,  # noqa: F401  (connects them)
        )
        from .methods import register

        register()
        setting_changed.connect(register)  # only tests send it
