"""What is collected; `fixtures` has the fixtures, `databases` the database."""

import os
from pathlib import Path

# The plugin by the name of its entry point: here too where the installation is older than that.
pytest_plugins = ["django_flashcall.pytest_plugin", "tests.fixtures"]

# The tests of a site of its own, which `test_package` runs.
collect_ignore = ["typed_site"]

# What only PostgreSQL can show; on SQLite it is not collected, and so never skipped.
if os.environ.get("TEST_DATABASE") != "postgres":
    collect_ignore.append("postgres")

# Nothing is left out where everything must be tested: there a missing browser is a failure.
if not (Path("/usr/bin/chromium").exists() or os.environ.get("CI") == "true"):
    collect_ignore.append("browser")
