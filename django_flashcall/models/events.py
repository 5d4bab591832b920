"""What becomes of verifications and calls."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .verifications import Call, Verification


class Attempt(models.Model):
    """A wrong code that was entered. The code itself is not stored."""

    verification = models.ForeignKey(
        Verification,
        on_delete=models.CASCADE,
        related_name="attempts",
        verbose_name=_("verification"),
    )
    # Not in a verification that verified afterwards.
    counts = models.BooleanField(default=True, editable=False)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)
    network = models.CharField(max_length=43, blank=True, editable=False)
    wide_network = models.CharField(max_length=43, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="flashcall_attempt_created"),
            models.Index(
                fields=["network", "created_at"],
                condition=Q(counts=True),
                name="flashcall_attempt_network",
            ),
            models.Index(
                fields=["wide_network", "created_at"],
                condition=Q(counts=True, wide_network__gt=""),
                name="flashcall_attempt_wide",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verification_id} {self.created_at:%Y-%m-%d %H:%M:%S}"


class DeliveryReport(models.Model):
    """A delivery report from the provider. Each outcome of a call is stored once."""

    class Outcome(models.TextChoices):
        SENT = "sent", _("sent")
        UNDELIVERED = "undelivered", _("not delivered")
        DELIVERED = "delivered", _("delivered")

    call = models.ForeignKey(
        Call,
        on_delete=models.CASCADE,
        related_name="reports",
        verbose_name=_("call"),
        db_index=False,  # covered by the constraint's index
    )
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices)
    error_code = models.CharField(_("reason"), max_length=32, blank=True)
    provider_code = models.IntegerField(_("provider's error"), null=True, blank=True)
    mcc_mnc = models.CharField(_("operator"), max_length=6, blank=True)
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=4, null=True, blank=True)
    submitted_at = models.DateTimeField(_("submitted"), null=True, blank=True)
    done_at = models.DateTimeField(_("done"), null=True, blank=True)
    created_at = models.DateTimeField(_("received"), default=timezone.now)

    class Meta:
        verbose_name = _("delivery report")
        verbose_name_plural = _("delivery reports")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["call", "outcome"], name="flashcall_report_once"),
        ]

    def __str__(self) -> str:
        return f"{self.call_id} {self.outcome}"
