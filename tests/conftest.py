"""What is collected; `fixtures` has the fixtures, `databases` the database."""

import os
from pathlib import Path

# The plugin by the name of its entry point: here too where the installation is older than that.
pytest_plugins = ["django_flashcall.pytest_plugin", "tests.fixtures"]

# The tests of a site of its own, which `test_package` runs.
collect_ignore = ["typed_site"]
collect_ignore_glob: list[str] = []

# What asks nothing of a database that another one could answer otherwise: on SQLite alone. It is
# not collected elsewhere, and so never skipped.
if os.environ.get("TEST_DATABASE", "sqlite") != "sqlite":
    collect_ignore += ["browser", "test_docs.py", "test_example_project.py", "test_package.py"]
    collect_ignore += ["test_metrics_exported.py"]
    collect_ignore += ["test_simulator.py", "test_translations.py", "test_tutorial.py"]
    collect_ignore += ["test_web_server.py", "test_webhooks_fuzzed.py"]
    collect_ignore_glob += ["test_backends_*.py"]
else:
    # Minutes of a database's work, which is to be that of a real site's.
    collect_ignore.append("test_month.py")

if not os.environ.get("TEST_DATABASE", "").startswith("postgres"):
    # They ask PostgreSQL for its plans, and who waits for whom.
    collect_ignore += ["test_constant_cost.py", "test_waiting_codes.py"]

# Nothing is left out where everything must be tested: there a missing browser is a failure.
if not (Path("/usr/bin/chromium").exists() or os.environ.get("CI") == "true"):
    collect_ignore.append("browser")
