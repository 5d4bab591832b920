"""Sphinx's configuration; ``make docs`` builds what Read the Docs shows."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

import django
from django.conf import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

settings.configure(
    SECRET_KEY="of the documentation alone",  # noqa: S106
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "rest_framework",
        "django_flashcall",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    FLASHCALL={
        "BACKENDS": {"default": {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}}
    },
    USE_TZ=True,
    LANGUAGE_CODE="en",
    ROOT_URLCONF="django_flashcall.urls",
)
django.setup()

project = "django-flashcall"
author = "django-flashcall contributors"
copyright = author
release = version_of("django-flashcall")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "flashcall_reference"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"django-flashcall {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# A word in single backticks of a docstring is a name of the code; not all have a page.
default_role = "py:obj"
# Every setting, check, error and signal that the text names must exist; names of Python need not.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
