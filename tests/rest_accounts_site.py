"""A site with dj-rest-auth and djoser: its serializers and its URLs."""

from dj_rest_auth.registration.serializers import RegisterSerializer
from django.urls import include, path
from djoser.serializers import UserCreateSerializer

from django_flashcall.contrib.djoser import PhoneUserCreateMixin
from django_flashcall.contrib.rest_auth import PhoneRegisterMixin


class PhoneRegisterSerializer(PhoneRegisterMixin, RegisterSerializer):
    pass


class PhoneUserCreateSerializer(PhoneUserCreateMixin, UserCreateSerializer):
    pass


urlpatterns = [
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("auth/", include("dj_rest_auth.urls")),
    path("auth/", include("dj_rest_auth.mfa.urls")),
    path("auth/registration/", include("dj_rest_auth.registration.urls")),
    path("djoser/", include("djoser.urls")),
    path("djoser/", include("djoser.urls.authtoken")),
    path("djoser/", include("djoser.urls.jwt")),
]
