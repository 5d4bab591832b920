"""The models. Of a code, only a digest is stored."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models, router
from django.db.models import Exists, Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from . import phones
from .conf import CHANNELS, FLASH_CALL, VOICE_CODE, conf
from .prepared.keys import is_key_of
from .prepared.queries import Parameter, Prepared
from .prepared.writes import PreparedUpdate, Write

__all__ = [
    "Attempt",
    "Call",
    "Channel",
    "CircuitBreaker",
    "DeliveryReport",
    "GuardDecision",
    "Phone",
    "Refusal",
    "Rule",
    "Verification",
]

LONGEST_RANGE = 9
"""Maximum length of a prefix that is shown in full, plus sign included; longer ones are masked."""


FAILED = Q(status__in=["rejected", "unknown"])
"""Calls that failed or have an unknown outcome; few enough for a small index of their own."""


LONGEST_REQUEST = timedelta(seconds=60)
"""No request waits longer for a provider: a call that is queued longer has lost its process."""

LONGEST_QUEUE = timedelta(seconds=660)
"""No worker places a call later: verifications end after 600 seconds at most."""


def new_id() -> uuid.UUID:
    """Return a new UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits.

    An index of random identifiers grows at a random place for each row, so it is larger and slower.
    """
    random = secrets.randbits(74)  # `uuid.uuid7` needs Python 3.14
    high, low = random >> 62, random & (2**62 - 1)
    return uuid.UUID(int=time.time_ns() // 10**6 << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


class Channel(models.TextChoices):
    FLASH_CALL = FLASH_CALL, _("flash call")
    VOICE_CODE = VOICE_CODE, _("voice code")


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


class Verification(models.Model):
    """The process of verifying a number for one purpose, with limited attempts, calls and time."""

    class State(models.TextChoices):
        """The stored states; `Verification.status` also considers the time and the attempts."""

        PENDING = "pending", pgettext_lazy("verification", "pending")
        VERIFIED = "verified", pgettext_lazy("verification", "verified")
        FAILED = "failed", pgettext_lazy("verification", "failed")
        CANCELLED = "cancelled", pgettext_lazy("verification", "cancelled")
        REDEEMED = "redeemed", pgettext_lazy("verification", "redeemed")

    EXPIRED = "expired"

    stopped: Collection[str] = ()
    """Channels that a rule stops; empty until `Call.newest` or a service looks them up."""

    is_purpose_redeemed = False
    """Whether a token of its purpose was ever redeemed; False until `Call.newest` looks it up."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    phone = models.ForeignKey(
        Phone, on_delete=models.CASCADE, related_name="verifications", verbose_name=_("phone")
    )
    purpose = models.CharField(_("purpose"), max_length=32)
    channel = models.CharField(_("channel"), max_length=16, choices=Channel.choices)
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.PENDING
    )
    code_length = models.PositiveSmallIntegerField(_("code length"))
    max_attempts = models.PositiveSmallIntegerField(_("maximum attempts"))
    attempts_left = models.PositiveSmallIntegerField(_("attempts left"))
    calls_left = models.PositiveSmallIntegerField(_("calls left"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        verbose_name=_("started by"),
    )
    session = models.CharField(max_length=64, blank=True, editable=False)
    is_known = models.BooleanField(_("known device"), default=False)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)
    created_at = models.DateTimeField(_("started"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"))
    verified_at = models.DateTimeField(
        pgettext_lazy("verification", "verified"), null=True, blank=True
    )
    verified_ip = models.GenericIPAddressField(_("verified from"), null=True, blank=True)
    redeemed_at = models.DateTimeField(
        pgettext_lazy("verification", "redeemed"), null=True, blank=True
    )
    redeemed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        verbose_name=_("redeemed by"),
    )

    former_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        verbose_name=_("former owner"),
        help_text=_("The account that the number was moved from."),
    )

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        indexes: ClassVar = [
            # List and statistics of the admin, retention
            models.Index(fields=["created_at"], name="flashcall_verif_created"),
            # Whether a token of a purpose was ever redeemed; filter of the admin
            models.Index(fields=["purpose", "state"], name="flashcall_verif_purpose"),
            # When an account is deleted; most verifications have none
            *(
                models.Index(
                    fields=[name],
                    condition=Q(**{f"{name}__isnull": False}),
                    name=f"flashcall_verif_{name}",
                )
                for name in ("user", "redeemed_by", "former_owner")
            ),
            # Filter of the admin, rare values
            models.Index(
                fields=["state", "created_at"],
                condition=Q(state__in=["failed", "cancelled"]),
                name="flashcall_verif_state",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def status(self) -> str:
        """The status in the API: the stored state, with used-up attempts and expiry applied."""
        if self.state == self.State.PENDING:
            if not self.attempts_left:
                return self.State.FAILED.value
            if timezone.now() >= self.expires_at:
                return self.EXPIRED
        return str(self.state)

    @property
    def is_pending(self) -> bool:
        return self.status == self.State.PENDING

    def belongs_to(self, user: AbstractBaseUser | None, session: str | None) -> bool:
        """Return True if this user or session started it, or if it is tied to neither."""
        if self.user_id is not None:
            return user is not None and is_key_of(user, self.user_id)
        return not self.session or constant_time_compare(self.session, session or "")

    def erase_codes(self) -> None:
        """Delete the code digests of all its calls, because the verification is finished."""
        self.written_calls.update(code_digest="")

    def progress_write(self, progress: Call.Progress) -> Write:
        """Return the statement that stores progress on its calls, and deletes their digests."""
        return _PROGRESS.bind(progress, verification=self.pk)

    @property
    def written_calls(self) -> models.QuerySet[Call]:
        """Its calls in the database that is written to; a replica may not have them yet."""
        return Call.objects.using(router.db_for_write(Call)).filter(verification=self)

    @property
    def newest_call(self) -> Call:
        """The latest call, cached; `Call.newest` fetches both in one query."""
        if not hasattr(self, "_newest_call"):
            self._newest_call = self.written_calls.latest("pk")
        return self._newest_call

    @newest_call.setter
    def newest_call(self, call: Call) -> None:
        self._newest_call = call

    @property
    def channels(self) -> list[str]:
        """Channels for another call; empty if it is finished or no calls are left."""
        purpose = conf.PURPOSES.get(self.purpose)
        if purpose is None or not (self.is_pending and self.calls_left):
            return []
        return [name for name in conf.channels_for(purpose) if name not in self.stopped]

    @property
    def resend_at(self) -> datetime | None:
        """When another call can be requested; None if it is finished or no calls are left."""
        if not (self.is_pending and self.calls_left):
            return None
        called_at = min(self.newest_call.created_at, timezone.now())
        free_at = self.phone.free_at(is_known=self.is_known)
        return max(filter(None, (free_at, called_at)))


class Call(models.Model):
    """One call requested from a provider."""

    beside: Collection[Any] = ()
    """Results of the expressions that `Call.newest` evaluated in its query."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")
        REJECTED = "rejected", _("rejected")
        UNKNOWN = "unknown", _("unknown")
        SENT = "sent", _("sent")
        UNDELIVERED = "undelivered", _("not delivered")
        DELIVERED = "delivered", _("delivered")

    class Progress(models.IntegerChoices):
        """How far the verification of a call came: the limits and the guard read it here.

        It is completed when its token is redeemed. If no token of its purpose was ever redeemed,
        the right code completes it.
        """

        UNVERIFIED = 0
        VERIFIED = 1
        COMPLETED = 2

    verification = models.ForeignKey(
        Verification, on_delete=models.CASCADE, related_name="calls", verbose_name=_("verification")
    )
    phone = models.ForeignKey(
        Phone,
        on_delete=models.CASCADE,
        related_name="calls",
        verbose_name=_("phone"),
        db_index=False,  # covered by flashcall_call_phone
    )
    channel = models.CharField(_("channel"), max_length=16, choices=Channel.choices)
    backend = models.CharField(_("backend"), max_length=64)
    reference = models.UUIDField(_("our identifier"), default=new_id, unique=True)
    status = models.CharField(
        _("status"), max_length=16, choices=Status.choices, default=Status.QUEUED
    )
    error_code = models.CharField(_("reason"), max_length=32, blank=True)
    provider_id = models.CharField(_("provider's identifier"), max_length=64, blank=True)
    provider_code = models.IntegerField(_("provider's error"), null=True, blank=True)
    provider_message = models.CharField(_("provider message"), max_length=300, blank=True)
    must_mend = models.BooleanField(_("needs attention"), default=False)
    mcc_mnc = models.CharField(_("operator"), max_length=6, blank=True)
    price = models.DecimalField(_("price"), max_digits=12, decimal_places=4, null=True, blank=True)
    code_digest = models.CharField(max_length=64, blank=True, editable=False)
    # Copied from the number and the visitor, so that the limits and the guard can use an index.
    prefix = models.CharField(_("range of numbers"), max_length=16, blank=True)
    country = models.CharField(_("country"), max_length=3, blank=True)
    network = models.CharField(_("visitor's network"), max_length=43, blank=True)
    wide_network = models.CharField(max_length=43, blank=True, editable=False)
    # For a test number, or by `services.pretend_call`.
    is_test = models.BooleanField(_("not placed"), default=False)
    is_known = models.BooleanField(_("known device"), default=False)
    progress = models.PositiveSmallIntegerField(
        choices=Progress.choices, default=Progress.UNVERIFIED, editable=False
    )
    created_at = models.DateTimeField(_("requested"), default=timezone.now)
    answered_at = models.DateTimeField(_("provider responded"), null=True, blank=True)

    class Meta:
        verbose_name = _("call")
        verbose_name_plural = _("calls")
        indexes: ClassVar = [
            # Limits of a number, its page in the admin
            models.Index(fields=["phone", "created_at"], name="flashcall_call_phone"),
            # Fraud guard
            models.Index(fields=["prefix", "created_at"], name="flashcall_call_prefix"),
            models.Index(fields=["network", "created_at"], name="flashcall_call_network"),
            # Limits, which read no more rows than their own number, however many were verified
            models.Index(
                fields=["network", "created_at"],
                condition=Q(progress=0),
                name="flashcall_call_limit_network",
            ),
            models.Index(
                fields=["wide_network", "created_at"],
                condition=Q(progress=0, wide_network__gt=""),
                name="flashcall_call_limit_wide",
            ),
            models.Index(
                fields=["prefix", "created_at"],
                condition=Q(progress=0),
                name="flashcall_call_limit_prefix",
            ),
            # Delivery reports without our identifier, search in the admin
            models.Index(fields=["provider_id"], name="flashcall_call_provider"),
            # List and statistics of the admin; common values of its filters
            models.Index(fields=["created_at"], name="flashcall_call_created"),
            # Filters of the admin, rare values; provider health
            models.Index(
                fields=["status", "created_at"],
                condition=~Q(status__in=["delivered", "sent"]),
                name="flashcall_call_status",
            ),
            models.Index(
                fields=["channel", "created_at"],
                condition=Q(channel=VOICE_CODE),
                name="flashcall_call_voice",
            ),
            models.Index(
                fields=["error_code", "created_at"],
                condition=Q(error_code__gt=""),
                name="flashcall_call_reason",
            ),
            models.Index(fields=["backend", "created_at"], name="flashcall_call_backend"),
            models.Index(
                fields=["backend", "created_at"], condition=FAILED, name="flashcall_call_trouble"
            ),
            models.Index(
                fields=["backend", "created_at"],
                condition=Q(must_mend=True),
                name="flashcall_call_mend",
            ),
        ]
        permissions: ClassVar = [
            ("export_call", "Can export calls"),
            ("place_test_call", "Can place a test call"),
        ]

    def __str__(self) -> str:
        return self.reference.hex

    @property
    def duration(self) -> timedelta | None:
        """How long the provider took to respond; None if it has not responded."""
        return self.answered_at - self.created_at if self.answered_at else None

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any
    ) -> Self:
        """Show a call that was lost as unknown, even before `settle_lost` stores that."""
        call = super().from_db(db, field_names, values, **options)
        if {"status", "created_at"} <= vars(call).keys() and call.is_lost:
            call.status = cls.Status.UNKNOWN
        return call

    @property
    def is_lost(self) -> bool:
        """Return True if it is queued, but no process waits for the provider any more.

        The process was killed, or the response could not be stored. The phone may have rung.
        """
        return self.status == self.Status.QUEUED and self.created_at < self.lost_before()

    @property
    def is_unanswered(self) -> bool:
        """Return True if neither the provider's response nor a delivery report is stored."""
        waiting = {self.Status.QUEUED, self.Status.UNKNOWN}
        return self.answered_at is None and self.status in waiting

    @staticmethod
    def lost_before() -> datetime:
        """Return the time before which queued calls are lost."""
        return timezone.now() - (LONGEST_QUEUE if conf.DISPATCH == "task" else LONGEST_REQUEST)

    @classmethod
    def settle_lost(cls) -> int:
        """Store calls that were lost as unknown, and return their number.

        A late response or delivery report still moves them forwards.
        """
        lost = cls.objects.filter(status=cls.Status.QUEUED, created_at__lt=cls.lost_before())
        return lost.update(status=cls.Status.UNKNOWN)

    @classmethod
    def newest(
        cls,
        verification: uuid.UUID,
        *,
        placed: bool = False,
        beside: Callable[..., list[Any]] | None = None,
        options: tuple[Hashable, ...] = (),
        values: Mapping[str, Parameter] = MappingProxyType({}),
    ) -> Call | None:
        """Return the newest call of a verification, with verification and phone, in one query.

        Args:
            verification: the id of the verification.
            placed: skip calls that were certainly not placed.
            beside: returns expressions to evaluate in the same query, from the options and values;
                see `Prepared`. Their results are the call's attribute `beside`.
            options: its options.
            values: its values.
        """
        rows = _NEWEST.rows(placed, beside, options, id=verification, **values)
        if not rows:
            return None
        row = iter(rows[0])
        call: Call
        call, found, phone = (_load(model, row) for model in (Call, Verification, Phone))
        call.verification, call.phone, found.phone = found, phone, phone
        found.is_purpose_redeemed = next(row)
        found.stopped = [name for name in CHANNELS if next(row)]
        *call.beside, has_later = row
        if not has_later:
            found.newest_call = call
        return call


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
        target = self.country or self.channel or self.prefix
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
        return f"{self.get_scope_display()} {self.hour:%Y-%m-%d %H}:00"


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
        return f"{self.get_scope_display()} {self.value}"

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
    asked_at = models.DateTimeField(editable=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["prefix", "asked_at"], name="flashcall_guard_asked"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix} {self.asked_at:%Y-%m-%d %H:%M:%S}"


def _newest(
    placed: bool,
    beside: Callable[..., list[Any]] | None,
    options: tuple[Hashable, ...],
    *,
    id: Any,
    **values: Any,
) -> list[models.QuerySet[Any, Any]]:
    of_purpose = Verification.objects.filter(
        purpose=models.OuterRef("verification__purpose"), state=Verification.State.REDEEMED
    )
    extra: dict[str, Any] = {"is_purpose_redeemed": Exists(of_purpose)}
    extra |= {f"stops_{name}": Exists(Rule.objects.filter(channel=name)) for name in CHANNELS}
    expressions = beside(*options, **values) if beside else []
    extra |= {f"beside{place}": expression for place, expression in enumerate(expressions)}
    later = Call.objects.filter(verification=id, pk__gt=models.OuterRef("pk"))
    extra["has_later"] = Exists(later) if placed else models.Value(0)
    calls = Call.objects.annotate(**extra).filter(verification=id)
    if placed:
        calls = calls.exclude(status=Call.Status.REJECTED)
    paths = {"": Call, "verification__": Verification, "verification__phone__": Phone}
    columns = [
        f"{path}{field.attname}"
        for path, model in paths.items()
        for field in model._meta.concrete_fields
    ]
    return [calls.order_by("-pk").values_list(*columns, *extra)[:1]]


_NEWEST = Prepared(Call, _newest)
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
_PROGRESS = PreparedUpdate(
    Call,
    lambda progress, *, verification: (
        Call.objects.filter(verification=verification),
        {"code_digest": "", "progress": progress},
    ),
)


def _load(model: type[models.Model], values: Iterator[Any]) -> Any:
    """Return an instance of a model from the next values of a row."""
    names = [field.attname for field in model._meta.concrete_fields]
    return model.from_db(router.db_for_write(model), names, [next(values) for _ in names])
