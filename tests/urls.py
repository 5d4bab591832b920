from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("phone/", include("django_flashcall.urls")),
    path("admin/", admin.site.urls),
]
