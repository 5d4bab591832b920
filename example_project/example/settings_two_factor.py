"""The example site with django-two-factor-auth: its login, and codes by flash call.

DJANGO_SETTINGS_MODULE=example.settings_two_factor python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import FLASHCALL, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += [
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "two_factor",
    "two_factor.plugins.phonenumber",
    "django_flashcall.contrib.two_factor",
]
MIDDLEWARE += [
    "django_otp.middleware.OTPMiddleware",
    "django_flashcall.contrib.two_factor.middleware.FlashcallTwoFactorMiddleware",
]
TWO_FACTOR_CALL_GATEWAY = "django_flashcall.contrib.two_factor.gateways.FlashCall"
FLASHCALL["PURPOSES"] = {"signup": {}, "change": {}}  # login by phone has no second factor
ROOT_URLCONF = "example.urls_two_factor"
LOGIN_URL = "two_factor:login"
LOGIN_REDIRECT_URL = "two_factor:profile"
