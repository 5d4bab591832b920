"""``manage.py demo``: the site and the simulated provider in one process, ready to be tried."""

from __future__ import annotations

import errno
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_flashcall.simulator import Simulator

WELCOME = """
The site        {site}
The API         {site}api/verifications/
The admin       {site}admin/      user: admin   password: admin
The provider    {provider}   simulated; its latest calls: {provider}calls

Ctrl-C stops it.
"""


class Command(BaseCommand):
    help = "Runs the demo: SQLite, the simulated provider and the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the site")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")
        port = urlsplit(settings.PROVIDER).port
        simulator = Simulator(port=port, auto_reports=True, report_delay=3)
        try:
            simulator.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise CommandError(f"Port {port} is taken: is another demo running?") from None
        try:
            site = f"http://127.0.0.1:{options['port']}/"
            self.stdout.write(WELCOME.format(site=site, provider=simulator.url))
            self.stdout.flush()
            call_command("runserver", f"127.0.0.1:{options['port']}", use_reloader=False)
        finally:
            simulator.stop()
