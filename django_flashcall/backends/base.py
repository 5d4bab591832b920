"""The interface of backends: their arguments, results and errors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from ..exceptions import MalformedReport
from ..redaction import Secret


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call to place.

    Attributes:
        phone: the number to call, in E.164 format with the plus sign.
        code: the digits that the visitor will type; empty if the backend `chooses_code`.
        reference: our identifier of the call, 32 hexadecimal digits; the same for every retry.
        channel: ``flash_call`` or ``voice_code``.
        code_length: number of digits of the code, also if the provider chooses it.
    """

    phone: str
    code: Secret
    reference: str
    channel: str
    code_length: int = 0

    def __post_init__(self) -> None:
        if not self.code_length:
            object.__setattr__(self, "code_length", len(self.code))


@dataclass(frozen=True, slots=True)
class Receipt:
    """The provider accepted the call.

    Attributes:
        provider_id: the provider's identifier of the call; empty if there is none.
        code: the digits that the phone shows, if the backend `chooses_code`; otherwise None.
    """

    provider_id: str = ""
    code: Secret | None = None


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A provider's request to the webhook for delivery reports. It may contain a code.

    Attributes:
        method: ``GET`` or ``POST``.
        body: at most 64 KiB.
        query: the URL parameters, with the last value of each.
        headers: by name, case-insensitive.
    """

    method: str
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report, translated from the provider's format. It does not contain the code.

    Attributes:
        backend: the alias that received the report.
        outcome: ``sent``, ``delivered`` or ``undelivered``.
        provider_id: the provider's identifier of the call; empty if the report has none.
        reference: our identifier of the call; empty if the provider does not return it.
        error_code: why the call was not delivered, a key of `reasons.REASONS`.
        provider_code: the provider's error number.
        mcc_mnc: the mobile operator: country code of 3 digits, network code of 2 or 3.
        price: the price of the call, in the currency of the contract.
        submitted_at: when the provider accepted the call.
        done_at: when the outcome was known.
    """

    backend: str
    outcome: str
    provider_id: str = ""
    reference: str = ""
    error_code: str = ""
    provider_code: int | None = None
    mcc_mnc: str = ""
    price: Decimal | None = None
    submitted_at: datetime | None = None
    done_at: datetime | None = None


class BaseBackend:
    """Base class of backends. All threads of a process share one instance per alias.

    Subclasses take their options as keyword-only arguments of ``__init__`` and implement
    `place_call`. An option without a default is required. `check_options` checks the options before
    an instance is created, so that ``manage.py check`` reports mistakes.
    """

    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Names of options whose values must never be shown."""

    report_methods: ClassVar[frozenset[str]] = frozenset()
    """HTTP methods of the provider's delivery reports; empty if it sends none."""

    chooses_code: ClassVar[bool] = False
    """True if the provider chooses the code and returns it, as `Receipt.code`.

    `CallRequest.code` is then empty, and no code is valid before the response. If the response is
    lost, the visitor has to request another call.
    """

    duplicate_control: bool = False
    """True if the provider drops a request with the ``id`` of an earlier one.

    Only then is a call requested again after a worker was killed while it placed it.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    def place_call(self, request: CallRequest) -> Receipt:
        """Ask the provider for one call and wait for its response.

        Args:
            request: the call to place.

        Returns:
            a receipt, if the provider accepted the call.

        Raises:
            ProviderError: the subclass says what went wrong, and ``may_have_been_placed`` whether
                the phone may be ringing. Any other exception is treated as a bug after which the
                call may have been placed.
        """
        raise NotImplementedError

    def parse_reports(self, request: WebhookRequest) -> Sequence[Report]:
        """Parse a request of the provider to the webhook.

        Returns:
            the reports in it; empty if it is well-formed but not about our calls.

        Raises:
            MalformedReport: the provider does not send such requests.
        """
        raise MalformedReport

    def close(self) -> None:
        """Close connections. Called when the settings of the alias change."""

    @classmethod
    def build(cls, alias: str, options: Mapping[str, Any]) -> BaseBackend:
        """Create the backend of an alias.

        Raises:
            ImproperlyConfigured: an option is unknown, missing or wrong.
        """
        for problem in cls.check_options(alias, options):
            if problem.level >= checks.ERROR:
                raise ImproperlyConfigured(f"{problem.msg} ({problem.hint})")
        return cls(alias, **options)

    @classmethod
    def option_parameters(cls) -> Mapping[str, inspect.Parameter]:
        """Return the options by name: the keyword-only arguments of ``__init__``."""
        return {
            name: parameter
            for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    @classmethod
    def required_options(cls) -> Sequence[str]:
        """Return the names of options without a default."""
        found = cls.option_parameters().items()
        return [name for name, option in found if option.default is option.empty]

    @classmethod
    def check_options(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Check the options of an alias without connecting to anything.

        Override `check_values` to check the values; it is called only if the names are right.
        Messages never contain values of `secret_options`.
        """
        parameters = cls.option_parameters()
        problems: list[checks.CheckMessage] = [
            checks.Error(
                f"FLASHCALL: backend {alias!r} has an unknown option {name!r}.",
                hint=f"Options of {cls.__name__}: {', '.join(parameters) or 'none'}.",
                id="django_flashcall.E005",
            )
            for name in options
            if name not in parameters
        ]
        problems += [
            checks.Error(
                f"FLASHCALL: backend {alias!r} lacks the option {name!r}.",
                hint=f"Add {name!r} to OPTIONS of the backend; the provider's contract names it.",
                id="django_flashcall.E006",
            )
            for name in cls.required_options()
            if options.get(name) in (None, "")
        ]
        return problems or cls.check_values(alias, options)

    @classmethod
    def check_values(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Check the values of the options. Subclasses override it."""
        return []

    @classmethod
    def check_deployment(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Check the options for ``manage.py check --deploy``. Subclasses override it."""
        return []
