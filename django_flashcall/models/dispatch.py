"""How calls reach a backend."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .verifications import Call


class QueuedCall(models.Model):
    """A call that a worker has to place. The row is deleted when the provider has responded.

    It makes sure that a call is neither lost nor placed twice if a worker is killed.
    """

    call = models.OneToOneField(Call, on_delete=models.CASCADE, related_name="in_queue")
    # When a worker took it. Two workers cannot take it: the update is conditional.
    taken_at = models.DateTimeField(null=True)
    # For a code of another system: what is added to the derived one, see `codes.offset`.
    code_offset = models.PositiveIntegerField(null=True)
    # When its number was called before, to undo the cooldown if the call is rejected.
    called_before = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.call_id)


class CircuitBreaker(models.Model):
    """The failures in a row of a backend, and how long no calls go through it."""

    backend = models.CharField(_("backend"), max_length=64)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    opened_at = models.DateTimeField(_("paused since"), null=True, blank=True)
    next_try_at = models.DateTimeField(_("next attempt"), null=True, blank=True)

    class Meta:
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["backend"], name="flashcall_breaker_once"),
        ]

    def __str__(self) -> str:
        return self.backend
