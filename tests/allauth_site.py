"""A site with django-allauth: its adapter and its URLs."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpResponse
from django.urls import include, path

from django_flashcall.contrib.allauth.adapter import FlashcallAdapterMixin


class Adapter(FlashcallAdapterMixin, DefaultAccountAdapter):
    pass


def home(request):
    return HttpResponse("home")


urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    path("accounts/profile/", home),
]
