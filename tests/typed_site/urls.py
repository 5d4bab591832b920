from django.urls import include, path

urlpatterns = [
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("phone/", include("django_flashcall.urls")),
]
