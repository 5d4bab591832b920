"""The example site with accounts of django-allauth.

DJANGO_SETTINGS_MODULE=example.settings_allauth python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS += [
    "allauth",
    "allauth.account",
    "allauth.headless",  # its JSON API
    "django_flashcall.contrib.allauth",
]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]

ROOT_URLCONF = "example.urls_allauth"
LOGIN_URL = "account_login"

ACCOUNT_ADAPTER = "example.adapter.Adapter"
ACCOUNT_LOGIN_METHODS = {"phone"}
ACCOUNT_SIGNUP_FIELDS = ["phone*", "password1*"]
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND = 2
ACCOUNT_PHONE_VERIFICATION_SUPPORTS_RESEND = 2
ACCOUNT_FORMS = {
    "verify_phone": "django_flashcall.contrib.allauth.forms.VerifyPhoneForm",
    "confirm_login_code": "django_flashcall.contrib.allauth.forms.ConfirmLoginCodeForm",
}
