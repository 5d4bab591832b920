"""``manage.py flashcall_what_if``: replay the last days' calls under other settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ...conf import MOST_DAYS
from ...protection import replay


class Command(BaseCommand):
    help = (
        "Replays the calls of the last days under other settings, and shows how many calls would "
        "have been saved, and how many people who completed would have been refused. Changes "
        "nothing. Example: flashcall_what_if FRAUD_GUARD=deny CALLS_TOTAL=500/day"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "changes",  # Django's own option is called ``settings``
            nargs="*",
            metavar="NAME=VALUE",
            help="Settings to try: " + ", ".join(replay.SETTINGS) + ". `None` switches one off.",
        )
        parser.add_argument("--days", type=int, default=30, help="Days to replay. Default: 30.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["days"] <= MOST_DAYS:
            raise CommandError(f"--days must be 1 or more, and at most {MOST_DAYS}.")
        given: dict[str, Any] = {}
        for text in options["changes"]:
            name, _, value = text.partition("=")
            given[name] = None if value == "None" else value
        try:
            tried = replay.values(given)
        except ValueError as error:
            raise CommandError(str(error)) from None
        since = timezone.now() - timedelta(days=options["days"])
        outcome = replay.replay(replay.placed(since), tried)
        percent = 100 * outcome.refused / outcome.honest if outcome.honest else 0
        self.stdout.write(
            f"{outcome.calls} calls in {options['days']} days, {outcome.honest} completed.\n"
            f"Saved: {outcome.saved} calls that nobody completed.\n"
            f"Refused: {outcome.refused} calls that people completed ({percent:.2f} %).\n"
            f"Delayed: {outcome.delayed} such calls, until the person asks again.\n"
        )
        for name, number in outcome.reasons.most_common():
            self.stdout.write(f"  {name}: {number}\n")
