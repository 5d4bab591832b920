"""Settings of a small site that uses the app, typed and tested against the installed wheel."""

SECRET_KEY = "a key"
USE_TZ = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "django_flashcall",
]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
FLASHCALL = {
    "BACKENDS": {
        "default": {
            "BACKEND": "django_flashcall.backends.flashingcall.FlashingCallBackend",
            "OPTIONS": {"url": "https://provider.example/", "login": "shop", "password": "secret"},
        }
    }
}
