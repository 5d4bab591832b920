"""The example site with accounts of djoser: its API at ``/auth/``, see ``/api/swagger/``.

DJANGO_SETTINGS_MODULE=example.settings_djoser python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import FLASHCALL, INSTALLED_APPS

INSTALLED_APPS += ["rest_framework.authtoken", "djoser"]
DJOSER = {"SERIALIZERS": {"user_create": "example.serializers_djoser.PhoneUserCreateSerializer"}}
FLASHCALL["LOGIN"] = {"ANSWER": "django_flashcall.contrib.djoser.answer"}
ROOT_URLCONF = "example.urls_djoser"
