from importlib import import_module

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured

__all__ = ["FlashcallOpenTelemetryConfig"]


class FlashcallOpenTelemetryConfig(AppConfig):
    name = "django_flashcall.contrib.opentelemetry"
    label = "flashcall_opentelemetry"

    def ready(self) -> None:
        try:
            import_module("opentelemetry.metrics")
        except ImportError:
            raise ImproperlyConfigured(
                f"{self.name} is in INSTALLED_APPS, but opentelemetry-api is not installed. "
                'Run `pip install "django-flashcall[opentelemetry]"`, or remove the app.'
            ) from None
        from . import receivers  # noqa: F401  (connects them)
