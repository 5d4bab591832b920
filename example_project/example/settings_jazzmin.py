"""The example site with the admin theme django-jazzmin.

DJANGO_SETTINGS_MODULE=example.settings_jazzmin python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS[:0] = ["jazzmin"]
# The theme has inline scripts and a font of Google.
MIDDLEWARE.remove("example.middleware.content_security_policy")
