"""``manage.py flashcall_survey``: look for fraud where the guard only reports."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from ...protection.fraud_guard import survey


class Command(BaseCommand):
    help = (
        "Looks for countries and operators whose calls nobody completes, and for a rise of wrong "
        "codes; sends the signals fraud_suspected and wrong_codes_rise. Run it once an hour."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        found = survey(timezone.now())
        for decision in found:
            self.stdout.write(
                f"{decision.scope} {decision.value}: {decision.unverified} calls that nobody "
                f"completed, {decision.allowed} are usual, {decision.honest} numbers completed."
            )
        if not found:
            self.stdout.write("Nothing suspicious.")
