"""The example site with django-otp: ``/otp-admin/`` asks for a code after the password.

    DJANGO_SETTINGS_MODULE=example.settings_otp python manage.py demo

Add a call device for ``admin`` in ``/admin/`` first.
"""

from .settings import *  # noqa: F403
from .settings import FLASHCALL, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += ["django_otp", "django_flashcall.contrib.otp"]
MIDDLEWARE += ["django_otp.middleware.OTPMiddleware"]
FLASHCALL["PURPOSES"] = {
    "signup": {},
    "change": {},
    "login": {"CODE_LENGTH": 6},
    "otp": {"CODE_LENGTH": 6},
}
ROOT_URLCONF = "example.urls_otp"
