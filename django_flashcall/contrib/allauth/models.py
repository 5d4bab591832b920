"""Numbers of accounts that are not verified yet; `django_flashcall.models` has the others."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from ... import phones
from ...models import Phone


class UnverifiedPhone(models.Model):
    """The number that an account gave at signup, until it is verified.

    It identifies nobody: several accounts can claim a number, and the first that verifies it gets
    it. A stranger's signup therefore does not lock the holder of the number out.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("account")
    )
    number = models.CharField(_("number"), max_length=16, db_index=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("unverified phone")
        verbose_name_plural = _("unverified phones")

    objects: ClassVar[models.Manager[UnverifiedPhone]] = models.Manager()

    def __str__(self) -> str:
        return phones.mask(self.number)


def forget(instance: Phone, origin: Any, **kwargs: Any) -> None:
    """Erase a number here too when `services.forget` erases it, but not when old rows are pruned.

    An account whose number is required could not log in without it.
    """
    if origin is instance:
        UnverifiedPhone.objects.filter(number=instance.number).delete()
