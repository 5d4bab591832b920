"""URLs of the pages and the webhook for delivery reports: ``path("phone/", include(…))``."""

from django.urls import path

from . import webhooks
from .pages import accounts, views

__all__ = ["app_name", "urlpatterns"]

app_name = "django_flashcall"

urlpatterns = [
    path("", views.StartView.as_view(), name="start"),
    path("login/", accounts.LoginView.as_view(), name="login"),
    path("number/", accounts.NumberView.as_view(), name="number"),
    path("number/change/", accounts.ChangeView.as_view(), name="change"),
    path("number/remove/", accounts.RemoveView.as_view(), name="remove"),
    path("taken/", accounts.TakenView.as_view(), name="taken"),
    path("signup/", views.SignupView.as_view(), name="signup"),
    path("done/", views.DoneView.as_view(), name="done"),
    path("<uuid:id>/", views.CheckView.as_view(), name="check"),
    path("<uuid:id>/resend/", views.ResendView.as_view(), name="resend"),
    path("<uuid:id>/cancel/", views.CancelView.as_view(), name="cancel"),
    path(
        "delivery-reports/<str:alias>/<str:secret>/",
        webhooks.DeliveryReportView.as_view(),
        name="delivery-report",
    ),
    # Without the slash at the end, or with more: otherwise Django would log the secret.
    path(
        "delivery-reports/<str:alias>/<path:secret>",
        webhooks.DeliveryReportView.as_view(),
    ),
]
