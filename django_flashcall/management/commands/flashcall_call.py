"""``manage.py flashcall_call +79161234567``: place a real call and print the outcome."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import services, signals
from ...conf import CHANNELS, conf
from ...delivery import reasons
from ...exceptions import FlashcallError, PhoneNotAllowed
from ...models import Call

POLL_SECONDS = 1.0

WHAT_ALLOWS_NUMBERS = (
    "The settings ALLOWED_COUNTRIES and NUMBER_TYPES and the rules in the admin decide which "
    "numbers are called."
)


class Command(BaseCommand):
    help = "Places a real call, which costs money, and prints the provider response."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("phone", help="the phone number, in any format")
        parser.add_argument(
            "--channel", choices=CHANNELS, help="default: the first one in the settings"
        )
        parser.add_argument("--purpose", help="default: the first one in the settings")
        parser.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="seconds to wait for the delivery report, which the running site receives",
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

        # Failed calls have a row too; refused ones have none.
        for signal in (signals.call_placed, signals.call_failed):
            signal.connect(remember)
        try:
            call = services.start(
                phone, channel=channel, purpose=purpose or next(iter(conf.PURPOSES))
            ).newest_call
        except FlashcallError as error:
            for call in asked:
                self._print(call)
            text = f"{error.error_code}: {error}"
            if isinstance(error, PhoneNotAllowed):
                text += f" {WHAT_ALLOWS_NUMBERS}"
            raise CommandError(text) from None
        finally:
            for signal in (signals.call_placed, signals.call_failed):
                signal.disconnect(remember)
        self._print(call)
        self._await_report(call, wait)

    def _print(self, call: Call) -> None:
        call.refresh_from_db()
        took = f"{call.duration.total_seconds():.2f} s" if call.duration else "no response yet"
        lines = {
            "Number": call.phone.masked,
            "Backend": call.backend or "none (test number, no call placed)",
            "Status": call.status,
            "Provider ID": call.provider_id,
            "Provider error": "" if call.provider_code is None else str(call.provider_code),
            "Provider message": call.provider_message,
            "Duration": took,
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
            self.stdout.write("No delivery report arrived in this time.")
