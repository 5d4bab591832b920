from django.contrib import admin
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.calls, name="home"),
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("admin/", admin.site.urls),
]
