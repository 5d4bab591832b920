from django.urls import include, path

from .urls import urlpatterns

urlpatterns = [
    path("auth/", include("dj_rest_auth.urls")),
    path("auth/registration/", include("dj_rest_auth.registration.urls")),
    *urlpatterns,
]
