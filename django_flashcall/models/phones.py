"""Phone numbers, their owners, and the state of their limits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import phones
from ..conf import conf
from ..prepared.writes import PreparedUpdate, Write


class Phone(models.Model):
    """A phone number, its owner, and the state of its limits."""

    number = models.CharField(_("number"), max_length=16)
    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="verified_phone",
        verbose_name=_("owner"),
    )
    verified_at = models.DateTimeField(pgettext_lazy("phone", "verified"), null=True, blank=True)
    last_called_at = models.DateTimeField(_("last called"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("wrong codes in a row"), default=0)
    waits_until = models.DateTimeField(_("locked until"), null=True, blank=True)
    # The same for its logged-in owner and for devices that verified it before.
    known_failures = models.PositiveIntegerField(default=0, editable=False)
    known_waits_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("first seen"), default=timezone.now, db_index=True)

    class Meta:
        verbose_name = _("phone")
        verbose_name_plural = _("phones")
        permissions: ClassVar = [
            ("view_number", "Can see whole phone numbers"),
            ("block_phone", "Can block and unlock phones"),
            ("forget_phone", "Can erase the data of a phone"),
        ]
        constraints: ClassVar = [
            # Not `unique=True`, which adds a second index for LIKE on PostgreSQL.
            models.UniqueConstraint(fields=["number"], name="flashcall_phone_number"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["waits_until"],
                condition=Q(waits_until__isnull=False),
                name="flashcall_phone_waits",
            ),
        ]

    def __str__(self) -> str:
        return self.masked

    @property
    def masked(self) -> str:
        """The number with only its country code and last digits."""
        return phones.mask(self.number)

    def locked_until(self, *, is_known: bool) -> datetime | None:
        """Return when its lock after wrong codes ends, possibly in the past; None without one.

        Args:
            is_known: the lock of its owner and of devices that verified it, not that of strangers.
        """
        return self.known_waits_until if is_known else self.waits_until

    def free_at(self, *, is_known: bool = False) -> datetime | None:
        """Return when its cooldown and lock end, possibly in the past; None without either."""
        cooldown = timedelta(seconds=conf.COOLDOWN)
        cooled = self.last_called_at and self.last_called_at + cooldown
        if cooled and cooled - cooldown > timezone.now() + cooldown:
            cooled = None  # the clock was set back since
        return max(filter(None, (cooled, self.locked_until(is_known=is_known))), default=None)

    def verified_write(self, now: datetime, *, is_known: bool = False) -> Write:
        """Return the statement that stores that it was verified, and clears wrong codes and lock.

        Args:
            now: the time.
            is_known: clear those of its owner and known devices, not those of strangers: their lock
                limits their guesses.
        """
        return _VERIFY_PHONE.bind(is_known, pk=self.pk, now=now)


_MOMENT: models.DateTimeField[Any, Any] = models.DateTimeField()


_VERIFY_PHONE = PreparedUpdate(
    Phone,
    lambda is_known, *, pk, now: (
        Phone.objects.filter(pk=pk),
        {
            "known_failures" if is_known else "failures": 0,
            "known_waits_until" if is_known else "waits_until": None,
            # Only an owner renews it, by redeeming the token; see `owners.set_owner`.
            "verified_at": models.Case(
                models.When(owner=None, then=models.Value(now, output_field=_MOMENT)),
                default=models.F("verified_at"),
            ),
        },
    ),
)
