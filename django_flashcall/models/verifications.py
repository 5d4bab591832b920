"""Verifications and their calls. Of a code, only a digest is stored."""

from __future__ import annotations

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

from ..conf import CHANNELS, VOICE_CODE, conf
from ..prepared.keys import is_key_of
from ..prepared.queries import Parameter, Prepared
from ..prepared.writes import PreparedUpdate, Update, Write, update_and_read
from .common import Channel, new_id
from .phones import Phone
from .protection import Rule

FAILED = Q(status__in=["rejected", "unknown"])
"""Calls that failed or have an unknown outcome; few enough for a small index of their own."""


LONGEST_REQUEST = timedelta(seconds=60)
"""No request waits longer for a provider: a call that is queued longer has lost its process."""


LONGEST_QUEUE = timedelta(seconds=660)
"""No worker places a call later: verifications end after 600 seconds at most."""

LONGEST_SESSION = 64
"""Characters of the value that ties a verification to a session."""


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
    session = models.CharField(max_length=LONGEST_SESSION, blank=True, editable=False)
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
        offered = conf.channels_with(max(purpose.code_length, self.code_length))
        return [name for name in offered if name not in self.stopped]

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
        spend: Update | None = None,
    ) -> Call | None:
        """Return the newest call of a verification, with verification and phone, in one query.

        Args:
            verification: the id of the verification.
            placed: skip calls that were certainly not placed.
            beside: returns expressions to evaluate in the same query, from the options and values;
                see `Prepared`. Their results are the call's attribute `beside`.
            options: its options.
            values: its values.
            spend: spends an attempt of the verification before that, in the same statement where
                the database can.

        Raises:
            Verification.DoesNotExist: no attempt was spent.
        """
        shape, bound = (placed, beside, options), {"id": verification, **values}
        if spend is not None:
            read = update_and_read(spend, ("attempts_left", "calls_left"), _NEWEST, shape, bound)
            if read is None:
                raise Verification.DoesNotExist
            call = _read(read.rows)
            if read.updated is None:
                return call
            if call is not None and call._is_current(*read.updated):
                call.verification.attempts_left -= 1
                return call
        return _read(_NEWEST.rows(*shape, **bound))

    def _is_current(self, attempts_left: int, calls_left: int) -> bool:
        """Return True if no other transaction changed its verification or calls after it was read.

        A resend and another attempt change the verification. A code that the provider chose, and a
        call through another backend instead of a rejected one, do not: if there is no code yet, or
        the latest call was rejected, this may be out of date.

        Args:
            attempts_left, calls_left: those of the verification, after an attempt was spent.
        """
        found = self.verification
        is_latest = hasattr(found, "_newest_call")
        before = found.attempts_left - 1, found.calls_left
        return is_latest and bool(self.code_digest) and before == (attempts_left, calls_left)


def _read(rows: list[tuple[Any, ...]]) -> Call | None:
    """Return the call of the row of `_NEWEST`, if there is one."""
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
        models.F(f"{path}{field.attname}")
        for path, model in paths.items()
        for field in model._meta.concrete_fields
    ]
    short = {f"c{place}": column for place, column in enumerate(columns)}
    return [calls.order_by("-pk").annotate(**short).values_list(*short, *extra)[:1]]


_NEWEST = Prepared(Call, _newest)


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
