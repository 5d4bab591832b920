"""Where Django looks for commands. Private: run them with ``manage.py``."""
