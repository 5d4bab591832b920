"""``manage.py flashcall_call +79161234567``: place one real call and print what came of it."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import services, signals
from ...conf import CHANNELS, conf
from ...delivery import reasons
from ...exceptions import FlashcallError
from ...models import Call

POLL_SECONDS = 1.0


class Command(BaseCommand):
    help = "Places one real call, which costs money, and prints what the provider said."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("phone", help="the number, in any way people write it")
        parser.add_argument("--channel", choices=CHANNELS, help="the site's first if omitted")
        parser.add_argument("--purpose", help="the site's first if omitted")
        parser.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="wait so long for the delivery report, which comes to the running site",
        )

    def handle(
        self,
        *args: Any,
        phone: str,
        channel: str | None,
        purpose: str | None,
        wait: float,
        **options: Any,
    ) -> None:
        asked: list[Call] = []

        def remember(call: Call, **kwargs: Any) -> None:
            asked.append(call)

        # A call that failed has a row too; what was refused before has none.
        for signal in (signals.call_placed, signals.call_failed):
            signal.connect(remember)
        try:
            call = services.start(
                phone, channel=channel, purpose=purpose or next(iter(conf.PURPOSES))
            ).newest_call
        except FlashcallError as error:
            for call in asked:
                self._print(call)
            raise CommandError(f"{error.error_code}: {error}") from None
        finally:
            for signal in (signals.call_placed, signals.call_failed):
                signal.disconnect(remember)
        self._print(call)
        self._await_report(call, wait)

    def _print(self, call: Call) -> None:
        call.refresh_from_db()
        took = f"{call.took.total_seconds():.2f} s" if call.took else "no answer yet"
        lines = {
            "Number": call.phone.masked,
            "Backend": call.backend or "none: a test number, no call placed",
            "Status": call.status,
            "Provider's id": call.provider_id,
            "Provider's error": "" if call.provider_code is None else str(call.provider_code),
            "Provider's words": call.provider_message,
            "Took": took,
            "Verification": str(call.verification_id),
        }
        for name, value in lines.items():
            if value:
                self.stdout.write(f"{name + ':':18}{value}")
        self.stdout.flush()

    def _await_report(self, call: Call, wait: float) -> None:
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            report = call.reports.exclude(outcome=Call.Status.SENT).first()
            if report is not None:
                words = reasons.label(report.error_code)
                self.stdout.write(f"{'Report:':18}{report.outcome}{words and f', {words}'}")
                return
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        if wait:
            self.stdout.write("No delivery report came in this time.")
