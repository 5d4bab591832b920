"""Settings of a site that a test serves by a web server: the suite's, with what the test chose."""

import json
import os

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS

INSTALLED_APPS.append("django_rq")
globals().update(json.loads(os.environ["FLASHCALL_SITE"]))
