"""The pages and the address for delivery reports: ``path("phone/", include(…))``."""

from django.urls import path

from . import webhooks

app_name = "django_flashcall"

urlpatterns = [
    path(
        "delivery-reports/<str:alias>/<str:secret>/",
        webhooks.DeliveryReportView.as_view(),
        name="delivery-report",
    ),
]
