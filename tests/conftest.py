"""What is collected; `fixtures` has the fixtures, `databases` the database."""

import os
from pathlib import Path

pytest_plugins = ["tests.fixtures"]

# What only PostgreSQL can show; on SQLite it is not collected, and so never skipped.
collect_ignore = [] if os.environ.get("TEST_DATABASE") == "postgres" else ["postgres"]

# Nothing is left out where everything must be tested: there a missing browser is a failure.
if not (Path("/usr/bin/chromium").exists() or os.environ.get("CI") == "true"):
    collect_ignore.append("browser")
