"""``manage.py flashcall_prune``: delete rows older than ``RETENTION_DAYS``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ...conf import MOST_DAYS, conf
from ...models import Call
from ...privacy.retention import outdated, prune


class Command(BaseCommand):
    help = (
        "Deletes verifications, with their calls, reports, attempts and addresses, and numbers "
        "without an owner, if they are older than RETENTION_DAYS. Erases the digests of codes that "
        "expired, and stores calls that lost their process as unknown. Run it daily."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only print what would be deleted"
        )
        parser.add_argument("--days", type=int, help="days to keep, instead of RETENTION_DAYS")

    def handle(self, *args: Any, dry_run: bool, days: int | None, **options: Any) -> None:
        days = conf.RETENTION_DAYS if days is None else days
        if not 0 <= days <= MOST_DAYS:
            raise CommandError(f"--days must be 0 or more, and at most {MOST_DAYS}.")
        before = timezone.now() - timedelta(days=days)
        if dry_run:
            for rows in outdated(before):
                words = rows.model._meta.verbose_name_plural
                self.stdout.write(
                    f"{rows.count()} {words} older than {days} days would be deleted."
                )
            return
        if lost := Call.settle_lost():
            self.stdout.write(f"{lost} calls that were queued for too long are unknown.")
        gone = prune(before)
        for label, number in sorted(gone.items()):
            self.stdout.write(f"{number} rows of {label} deleted.")
        if not gone:
            self.stdout.write(f"Nothing to delete: no rows are older than {days} days.")
