"""What decides whether a number is called, besides the calls of the past."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import formats, timezone
from django.utils.timezone import template_localtime  # type: ignore[attr-defined]
from django.utils.translation import gettext_lazy as _

from .. import phones
from .common import Channel

LONGEST_RANGE = 9
"""Maximum length of a prefix that is shown in full, plus sign included; longer ones are masked."""


class Rule(models.Model):
    """Allows or denies calls to a prefix or a country, or denies a channel. Effective at once.

    The longest matching prefix decides. A country counts as shorter than any prefix, and deny wins
    over allow at the same length. A denied channel places no calls at all.
    """

    class Action(models.TextChoices):
        ALLOW = "allow", _("allow")
        DENY = "deny", _("deny")

    action = models.CharField(_("action"), max_length=8, choices=Action.choices)
    prefix = models.CharField(
        _("number or prefix"),
        max_length=16,
        blank=True,
        db_index=True,
        help_text=_("With the plus and the country code, for example +7916 or +79161234567."),
    )
    country = models.CharField(
        _("country"), max_length=2, blank=True, help_text=_("Two letters, for example RU.")
    )
    channel = models.CharField(
        _("channel"),
        max_length=16,
        choices=Channel.choices,
        blank=True,
        help_text=_(
            "If denied, no calls are placed through this channel until you delete the rule."
        ),
    )
    note = models.CharField(_("note"), max_length=300, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(
                    (~Q(prefix="") & Q(country="", channel=""))
                    | (~Q(country="") & Q(prefix="", channel=""))
                    | (~Q(channel="") & Q(prefix="", country="", action="deny"))
                ),
                name="flashcall_rule_target",
                violation_error_message=_(
                    "Enter one of these: a number or prefix, a country, or a channel to deny."
                ),
            ),
            models.UniqueConstraint(
                fields=["prefix", "country", "channel", "action"], name="flashcall_rule_once"
            ),
        ]

    def __str__(self) -> str:
        target = self.country or self.get_channel_display() or self.prefix
        if len(self.prefix) > LONGEST_RANGE:
            target = phones.mask(self.prefix)
        return f"{self.get_action_display()} {target}"


class Refusal(models.Model):
    """Blocked requests: one row per limit, reason and hour, so that a flood adds few rows."""

    class Scope(models.TextChoices):
        NUMBER = "number", _("number")
        ADDRESS = "address", _("address")
        PREFIX = "prefix", _("range of numbers")
        TOTAL = "total", _("site total")
        RULE = "rule", _("rule or country")
        GUARD = "guard", _("fraud guard")
        CHANNEL = "channel", _("stopped channel")
        IN_FLIGHT = "in_flight", _("simultaneous calls")
        BREAKER = "breaker", _("paused backend")

    class Reason(models.TextChoices):
        """The `error_code` of the error that the visitor got."""

        COOLDOWN = "cooldown", _("called too recently")
        TOO_MANY_CALLS = "too_many_calls", _("too many calls")
        PHONE_NOT_ALLOWED = "phone_not_allowed", _("number not allowed")
        TOO_MANY_ATTEMPTS = "too_many_attempts", _("too many wrong codes")
        PROVIDER_UNAVAILABLE = "provider_unavailable", _("calls stopped")

    scope = models.CharField(_("limit"), max_length=16, choices=Scope.choices)
    reason = models.CharField(_("reason"), max_length=32, choices=Reason.choices)
    hour = models.DateTimeField(_("hour"))
    count = models.PositiveIntegerField(_("count"), default=1)
    example = models.CharField(_("latest example"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("blocked request")
        verbose_name_plural = _("blocked requests")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["hour", "scope", "reason"], name="flashcall_refusal_once"
            ),
        ]

    def __str__(self) -> str:
        hour = formats.date_format(template_localtime(self.hour), "SHORT_DATETIME_FORMAT")
        return f"{self.get_scope_display()} {hour}"


class GuardDecision(models.Model):
    """What the fraud guard does about a range, address, country or operator, and what people say.

    A range or an address that looks abused is narrowed: a trickle of calls passes, see
    `django_flashcall.protection.evidence`. Only a person can close it.
    """

    class Scope(models.TextChoices):
        PREFIX = "prefix", _("range of numbers")
        ADDRESS = "address", _("address")
        COUNTRY = "country", _("country")
        OPERATOR = "operator", _("operator")

    class Mode(models.TextChoices):
        """Who decides: the guard, or a person who opened, closed or watches it."""

        AUTO = "auto", _("the guard decides")
        OPEN = "open", _("open")
        CLOSED = "closed", _("closed")
        WATCH = "watch", _("only watched")

    QUIET = timedelta(days=2)
    """It stays narrowed until nothing suspicious was asked for so long, and the evidence faded."""

    scope = models.CharField(_("scope"), max_length=16, choices=Scope.choices)
    value = models.CharField(_("value"), max_length=43)
    mode = models.CharField(_("who decides"), max_length=8, choices=Mode.choices, default=Mode.AUTO)
    denied = models.BooleanField(_("narrowed"))
    unverified = models.FloatField(_("calls not verified"))
    honest = models.FloatField(_("verified numbers"))
    allowed = models.FloatField(_("expected calls not verified"))
    count = models.PositiveIntegerField(_("refused"), default=0)
    passed = models.PositiveIntegerField(_("passed"), default=0)
    created_at = models.DateTimeField(_("since"), default=timezone.now, db_index=True)
    last_at = models.DateTimeField(_("last applied"), default=timezone.now, db_index=True)
    # The last call of each trickle; a conditional update takes the next one.
    passed_at = models.DateTimeField(null=True, editable=False)
    returned_at = models.DateTimeField(null=True, editable=False)
    solved_at = models.DateTimeField(null=True, editable=False)
    told_on = models.DateField(null=True, editable=False)
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("decided by"),
    )

    class Meta:
        verbose_name = _("fraud guard decision")
        verbose_name_plural = _("fraud guard decisions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "value"], name="flashcall_decision_once"),
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()} {self.masked}"

    @property
    def masked(self) -> str:
        """The value; of a range of numbers, only its beginning."""
        return phones.mask_range(self.value) if self.scope == self.Scope.PREFIX else self.value

    @property
    def is_quiet(self) -> bool:
        """Return True if nothing suspicious was asked for a while."""
        return self.last_at <= timezone.now() - self.QUIET


class GuardRequest(models.Model):
    """A request that the fraud guard refused, so that it is recognised when it comes back.

    It does not contain the number. The row is deleted when it passes. A challenge that was solved
    has a row too, without a range, so that it is used once.
    """

    key = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=16, editable=False)
    network = models.CharField(max_length=64, blank=True, editable=False)  # a keyed digest
    asked_at = models.DateTimeField(editable=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["prefix", "asked_at"], name="flashcall_guard_asked"),
            models.Index(fields=["network", "asked_at"], name="flashcall_guard_network"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix} {self.asked_at:%Y-%m-%d %H:%M:%S}"


class CallCount(models.Model):
    """The number of calls of the whole site that began in a slice of time, for ``CALLS_TOTAL``.

    A slice has several rows, so that simultaneous calls do not wait for one of them.
    """

    begins_at = models.DateTimeField()
    part = models.PositiveSmallIntegerField()
    calls = models.IntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["begins_at", "part"], name="flashcall_count_once"),
        ]

    def __str__(self) -> str:
        return f"{self.begins_at:%Y-%m-%d %H:%M:%S} {self.part}"
