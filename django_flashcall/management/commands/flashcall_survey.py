"""``manage.py flashcall_survey``: report suspicious countries and operators."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from ...protection.survey import survey


class Command(BaseCommand):
    help = (
        "Looks for countries and operators with many uncompleted calls, and for a rise in wrong "
        "codes. Sends the signals fraud_suspected and wrong_codes_rise. Run it hourly."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        found = survey(timezone.now())
        for decision in found:
            self.stdout.write(
                f"{decision.scope} {decision.value}: {decision.unverified} calls not "
                f"completed, {decision.allowed} are usual, {decision.honest} numbers completed."
            )
        if not found:
            self.stdout.write("Nothing suspicious.")
