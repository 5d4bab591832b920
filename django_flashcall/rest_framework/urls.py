from django.urls import path

from . import views

__all__ = ["app_name", "urlpatterns"]

app_name = "django_flashcall_api"

urlpatterns = [
    path("verifications/", views.StartView.as_view(), name="start"),
    path("verifications/<uuid:id>/", views.VerificationView.as_view(), name="verification"),
    path("verifications/<uuid:id>/check/", views.CheckView.as_view(), name="check"),
    path("verifications/<uuid:id>/resend/", views.ResendView.as_view(), name="resend"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("phone/", views.PhoneView.as_view(), name="phone"),
    path("signup/", views.SignupView.as_view(), name="signup"),
]
