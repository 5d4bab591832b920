"""The example site with the admin theme django-unfold.

DJANGO_SETTINGS_MODULE=example.settings_unfold python manage.py demo
"""

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS[:0] = ["unfold"]
# Alpine.js, which the theme uses, needs eval().
MIDDLEWARE.remove("example.middleware.content_security_policy")
