from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.urls import path
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.views import APIView

from . import views

__all__ = ["app_name", "urlpatterns"]

app_name = "django_flashcall_api"

if not apps.is_installed("rest_framework") and any(
    issubclass(renderer, BrowsableAPIRenderer) for renderer in APIView.renderer_classes
):
    # Otherwise, the response to a browser would fail after the call was placed.
    raise ImproperlyConfigured(
        "Add 'rest_framework' to INSTALLED_APPS: its browsable API has no templates without it."
    )

urlpatterns = [
    path("verifications/", views.StartView.as_view(), name="start"),
    path("verifications/<uuid:id>/", views.VerificationView.as_view(), name="verification"),
    path("verifications/<uuid:id>/check/", views.CheckView.as_view(), name="check"),
    path("verifications/<uuid:id>/resend/", views.ResendView.as_view(), name="resend"),
    path("challenge/", views.ChallengeView.as_view(), name="challenge"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("phone/", views.PhoneView.as_view(), name="phone"),
    path("signup/", views.SignupView.as_view(), name="signup"),
]
