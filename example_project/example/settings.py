"""An example site that uses django-flashcall with a simulated provider."""

import os
from importlib.metadata import version
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent

SECRET_KEY = "for the demo only: generate your own"
DEBUG = True
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",  # the OpenAPI schema
    "drf_spectacular_sidecar",  # the files of Swagger UI
    "django_flashcall",
    "example",
    "virtual_phone",  # only for the demo: shows the calls of the simulated provider
]

# The settings of django-flashcall. `manage.py demo` starts the simulated provider at this URL.
PROVIDER = os.environ.get("DEMO_PROVIDER", "http://127.0.0.1:8800/")
FLASHCALL = {
    "BACKENDS": {
        "default": {
            "BACKEND": "django_flashcall.backends.flashingcall.FlashingCallBackend",
            "OPTIONS": {"url": PROVIDER, "login": "demo", "password": "demo"},
        },
        "voice": {
            "BACKEND": "django_flashcall.backends.flashingcall.FlashingCallBackend",
            "OPTIONS": {"url": PROVIDER, "login": "demo-voice", "password": "demo"},
        },
    },
    "CHANNELS": {"flash_call": ["default"], "voice_code": ["voice"]},
    "DELIVERY_REPORT_SECRETS": ["for-the-demo-only-generate-your-own"],
    # One person tries everything here, so the limits are loose. On a real site, keep the defaults.
    "COOLDOWN": 10,
    "CALLS_PER_PHONE": "200/day",
    "CALLS_PER_IP": "200/hour",
    "CALLS_PER_PREFIX": "200/hour",
    "FAILURES_PER_IP": "200/day",
    "FRAUD_GUARD": "record",
}

REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "django-flashcall",
    "VERSION": version("django-flashcall"),
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "/favicon.ico",
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example.urls"
LOGIN_URL = "django_flashcall:login"
LOGIN_REDIRECT_URL = "profile"
LOGOUT_REDIRECT_URL = "home"
STATIC_URL = "static/"
LANGUAGE_CODE = "en"
TIME_ZONE = "Europe/Moscow"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "locale"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

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

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEMO_DATABASE", BASE_DIR / "db.sqlite3"),
        # Requests that write wait for each other instead of failing.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
