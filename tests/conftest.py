"""What is collected; `fixtures` has the fixtures, `databases` the database."""

import os

pytest_plugins = ["tests.fixtures"]

# What only PostgreSQL can show; on SQLite it is not collected, and so never skipped.
collect_ignore = [] if os.environ.get("TEST_DATABASE") == "postgres" else ["postgres"]
