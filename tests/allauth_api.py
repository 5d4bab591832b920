"""A site that has the API of django-allauth alone."""

from django.urls import include, path

urlpatterns = [path("_allauth/", include("allauth.headless.urls"))]
