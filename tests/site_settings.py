"""Settings of the processes that a test starts: the suite's, with what the test chose."""

import json
import os

from .settings import *  # noqa: F403
from .settings import DATABASES, INSTALLED_APPS, TASKS

_given = json.loads(os.environ["FLASHCALL_SITE"])
DATABASES["default"] = _given["database"]
FLASHCALL = _given["flashcall"]
CELERY_BROKER_URL = _given["redis"]
CELERY_TASK_DEFAULT_QUEUE = "default"
RQ_QUEUES = {"default": {"URL": _given["redis"]}}
INSTALLED_APPS.append("django_rq")
if _given["celery"]:
    TASKS["celery"] = {"BACKEND": "mysite.celery_tasks.CeleryTasks"}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"log": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["log"], "level": "ERROR"},
}
