from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...simulator import command


class Command(BaseCommand):
    help = "Serves the provider's API on a local port: nobody is called and nothing costs money."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        command.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        command.serve(options)
