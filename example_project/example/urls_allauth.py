from django.urls import include, path

from .urls import urlpatterns as site

urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    *site,
]
