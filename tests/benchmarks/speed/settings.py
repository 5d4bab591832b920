"""A site with Django's usual middleware and three packages that verify phones. Nobody is called."""

import os

from tests import databases

SECRET_KEY = "the benchmarks' own key, which keeps nothing"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.benchmarks.speed.site"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "speed.User"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "rest_framework.authtoken",
    "tests.benchmarks.speed",
    "django_flashcall",
    "phone_verify",
    "drfpasswordless",
]
MIDDLEWARE = [  # those of `startproject`
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"}}

os.environ.setdefault("TEST_DATABASE", "postgres")
DATABASES = {"default": {**databases.chosen(), "CONN_MAX_AGE": None}}
if "DJANGOS_DEFAULTS" not in os.environ:  # as the documentation recommends, for all packages
    DATABASES["default"]["OPTIONS"] = databases.PREPARED

REPORT_SECRET = "s" * 32
FLASHCALL = {
    "BACKENDS": {
        "default": {
            "BACKEND": "tests.benchmarks.speed.senders.DiscardingBackend",
            "OPTIONS": {"url": "https://localhost/", "login": "demo", "password": "demo"},
        }
    },
    # Every limit and the guard are on. The limits are above what the benchmark does.
    "CALLS_PER_PHONE": "100/day",
    "CALLS_PER_IP": "2000/hour",
    "CALLS_PER_PREFIX": "2000/hour",
    "CALLS_TOTAL": "10000000/day",
    "FRAUD_GUARD": "deny",
    "TRUSTED_PROXIES": 1,  # each request has an address of its own
    "DELIVERY_REPORT_SECRETS": [REPORT_SECRET],
}
PHONE_VERIFICATION = {
    "BACKEND": "tests.benchmarks.speed.senders.DiscardingSMS",
    "OPTIONS": {},
    "TOKEN_LENGTH": 6,
    "MESSAGE": "{app}: {security_code}",
    "APP_NAME": "Benchmark",
    "SECURITY_CODE_EXPIRATION_SECONDS": 3600,
    "VERIFY_SECURITY_CODE_ONLY_ONCE": True,
}
PASSWORDLESS_AUTH = {
    "PASSWORDLESS_AUTH_TYPES": ["MOBILE"],
    "PASSWORDLESS_TEST_SUPPRESSION": True,
    "PASSWORDLESS_MOBILE_NOREPLY_NUMBER": "+10000000000",
    "PASSWORDLESS_TOKEN_EXPIRE_TIME": 3600,
}
