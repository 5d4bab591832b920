"""Settings of the suite; ``TEST_DATABASE`` is ``sqlite`` or ``postgres``."""

import os

import django

from . import databases

SECRET_KEY = "the tests' own key, which keeps nothing"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "django_flashcall",
    "django_flashcall.contrib.allauth",
    "django_flashcall.contrib.opentelemetry",
    "allauth",
    "allauth.account",
    "allauth.headless",
    "allauth.socialaccount",
    "dj_rest_auth.mfa",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "two_factor",
    "two_factor.plugins.phonenumber",
    "django_flashcall.contrib.otp",
    "django_flashcall.contrib.two_factor",
]
MIDDLEWARE = [
    "tests.middleware.strict_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Only the tests of `contrib.otp` and `contrib.two_factor` have its purpose and its middleware.
SILENCED_SYSTEM_CHECKS = ["django_flashcall.E101", "django_flashcall.E112"]
TWO_FACTOR_PATCH_ADMIN = False
TWO_FACTOR_CALL_GATEWAY = "django_flashcall.contrib.two_factor.gateways.FlashCall"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "django-flashcall",
    "DESCRIPTION": "Phone verification by flash call and voice code.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}
FLASHCALL = {"BACKENDS": {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}}}

if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")
INSTALLED_APPS.append("django_tasks_db")
TASKS = {
    "default": {"BACKEND": "django_tasks_db.DatabaseBackend"},
    "redis": {"BACKEND": "django_tasks_rq.RQBackend"},
}
RQ_QUEUES = {"default": {"URL": os.environ.get("FLASHCALL_REDIS", "redis://127.0.0.1:1/0")}}

DATABASES = {"default": databases.chosen()}

# django-allauth, see `test_contrib_allauth`.
ACCOUNT_ADAPTER = "tests.allauth_site.Adapter"
ACCOUNT_FORMS = {
    "confirm_login_code": "django_flashcall.contrib.allauth.forms.ConfirmLoginCodeForm",
    "verify_phone": "django_flashcall.contrib.allauth.forms.VerifyPhoneForm",
}
ACCOUNT_LOGIN_METHODS = {"phone", "email"}
ACCOUNT_SIGNUP_FIELDS = ["phone*", "email", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_BY_CODE_SUPPORTS_RESEND = 2
ACCOUNT_PHONE_VERIFICATION_SUPPORTS_RESEND = 2
ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT = {"numeric": True, "length": 6}
HEADLESS_CLIENTS = ["app", "browser"]
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}

# dj-rest-auth and djoser, see `test_contrib_rest_accounts`.
REST_AUTH = {"REGISTER_SERIALIZER": "tests.rest_accounts_site.PhoneRegisterSerializer"}
DJOSER = {"SERIALIZERS": {"user_create": "tests.rest_accounts_site.PhoneUserCreateSerializer"}}
