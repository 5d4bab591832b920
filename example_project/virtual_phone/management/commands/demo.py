"""``manage.py demo``: run the site and the simulated provider in one process."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from django_flashcall.simulator import Account, Simulator

WELCOME = """
Open this:      {site}

It shows a signup page next to a virtual phone that rings. No real calls are placed.

The API         {site}api/docs/
The admin       {site}admin/      user: admin   password: admin
The provider    {provider}   (simulated)   latest calls: {provider}calls

Press Ctrl-C to stop.
"""


class Command(BaseCommand):
    help = "Runs the demo: SQLite, the simulated provider and the site."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="port of the site")

    def handle(self, *args: Any, **options: Any) -> None:
        site, provider = options["port"], urlsplit(settings.PROVIDER).port or 80
        refuse_taken(site, "make demo ARGS='--port 8001'")
        again = f"DEMO_PROVIDER=http://127.0.0.1:8801/ make demo ARGS='--port {site}'"
        refuse_taken(provider, again)
        call_command("migrate", verbosity=0)
        users = get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")
        # The virtual phone sends a request every second, which would fill the log.
        phone = reverse("virtual_phone")
        logging.getLogger("django.server").addFilter(lambda line: phone not in line.getMessage())
        url = f"http://127.0.0.1:{site}"
        secret = settings.FLASHCALL["DELIVERY_REPORT_SECRETS"][0]
        reports = url + reverse("django_flashcall:delivery-report", args=["default", secret])
        accounts = [
            Account("demo", "demo", six_digits=True),  # for login
            Account("demo-voice", "demo", voice=True),
        ]
        with Simulator(
            accounts, port=provider, auto_reports=True, report_delay=3, report_url=reports
        ) as simulator:
            self.stdout.write(WELCOME.format(site=f"{url}/", provider=simulator.url))
            self.stdout.flush()
            call_command("runserver", f"127.0.0.1:{site}", use_reloader=False)


def refuse_taken(port: int, with_another: str) -> None:
    """Raise CommandError if a local port is in use."""
    with closing(socket.socket()) as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) == 0:
            raise CommandError(
                f"Port {port} is taken: is another demo running? Stop it, or use another port: "
                f"{with_another}"
            )
