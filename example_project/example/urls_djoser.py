from django.urls import include, path

from .urls import urlpatterns

urlpatterns = [
    path("auth/", include("djoser.urls")),
    path("auth/", include("djoser.urls.authtoken")),
    *urlpatterns,
]
