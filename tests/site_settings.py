"""Settings of a site that a test serves by gunicorn: the suite's, with what the test chose."""

import json
import os

from .settings import *  # noqa: F403
from .settings import DATABASES, INSTALLED_APPS

_given = json.loads(os.environ["FLASHCALL_SITE"])
DATABASES["default"] = _given["database"]
FLASHCALL = _given["flashcall"]
INSTALLED_APPS.append("django_rq")
