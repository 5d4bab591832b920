"""The example site with accounts of dj-rest-auth: its API at ``/auth/``, see ``/api/swagger/``.

DJANGO_SETTINGS_MODULE=example.settings_rest_auth python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import FLASHCALL, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += [
    "rest_framework.authtoken",
    "dj_rest_auth",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "dj_rest_auth.registration",
]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
ACCOUNT_EMAIL_VERIFICATION = "none"
REST_AUTH = {"REGISTER_SERIALIZER": "example.serializers_rest_auth.PhoneRegisterSerializer"}
FLASHCALL["LOGIN"] = {"ANSWER": "django_flashcall.contrib.rest_auth.answer"}
ROOT_URLCONF = "example.urls_rest_auth"
