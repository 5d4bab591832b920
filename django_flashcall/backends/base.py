"""The contract between the app and a provider: what a backend gets, gives back and raises."""

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
    """One call that a backend is asked to place.

    Attributes:
        phone: the number to call, in E.164 with the plus.
        code: the digits that the person will type; empty where the backend `chooses_code`.
        reference: our own identifier of the call, 32 plain characters; the same at every retry.
        channel: ``flash_call`` or ``voice_code``.
        code_length: how many digits the code has, or must have where the provider chooses it.
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
    """The provider took the call.

    Attributes:
        provider_id: the provider's identifier of the call, empty if it gave none.
        code: the digits that the phone shows, where the backend `chooses_code`; else None.
    """

    provider_id: str = ""
    code: Secret | None = None


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What a provider sent to our address for delivery reports; it may carry a code.

    Attributes:
        method: ``GET`` or ``POST``.
        body: at most 64 KiB.
        query: the parameters of the URL, the last value of each.
        headers: by name, any case.
    """

    method: str
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider said of a call later, in our words; the code is not among them.

    Attributes:
        backend: the alias that the report came for.
        outcome: ``sent``, ``delivered`` or ``undelivered``.
        provider_id: the provider's identifier of the call, empty if it named none.
        reference: our own, as the provider gave it back, empty if it did not.
        error_code: why it was not delivered, a key of `reasons.REASONS`.
        provider_code: the provider's own number for that.
        mcc_mnc: the subscriber's network: country code of 3 digits, network code of 2 or 3.
        price: what the call costs, in the currency of the contract.
        submitted_at: when the provider took the call.
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
    """Base class of backends: one instance per alias and process, used by many threads at once.

    A subclass takes its options as keyword-only arguments of ``__init__`` and implements
    `place_call`. An option without a default is required. Options are judged by `check_options`
    before an instance is made, so that ``manage.py check`` finds what is wrong.
    """

    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Names of options whose values must never be shown."""

    report_methods: ClassVar[frozenset[str]] = frozenset()
    """HTTP methods that the provider posts delivery reports with; none: it posts no reports."""

    chooses_code: ClassVar[bool] = False
    """The provider chooses the code and tells it in its answer, as `Receipt.code`.

    `CallRequest.code` is empty then, and nothing verifies before the answer is there. So a call
    whose answer is lost rings in vain: the person has to ask for another one.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"

    def place_call(self, request: CallRequest) -> Receipt:
        """Ask the provider for one call, and wait for its answer.

        Args:
            request: what to call and the code to carry.

        Returns:
            a receipt, once the provider has taken the call.

        Raises:
            ProviderError: one of its subclasses says whose fault it is, and its
                ``may_have_been_placed`` whether the phone may be ringing. Any other exception is
                taken for a bug, and the call for one that may have been placed.
        """
        raise NotImplementedError

    def parse_reports(self, request: WebhookRequest) -> Sequence[Report]:
        """Translate what the provider sent about its calls.

        Returns:
            the reports in it; none where it is well-formed and tells nothing of our calls.

        Raises:
            MalformedReport: it is not what the provider sends.
        """
        raise MalformedReport

    def close(self) -> None:
        """Give connections back; called when the settings of the alias change."""

    @classmethod
    def build(cls, alias: str, options: Mapping[str, Any]) -> BaseBackend:
        """Make the instance of an alias.

        Raises:
            ImproperlyConfigured: an option is unknown, missing or wrong.
        """
        for problem in cls.check_options(alias, options):
            if problem.level >= checks.ERROR:
                raise ImproperlyConfigured(f"{problem.msg} ({problem.hint})")
        return cls(alias, **options)

    @classmethod
    def option_parameters(cls) -> Mapping[str, inspect.Parameter]:
        """Return the options by name: keyword-only arguments of ``__init__``."""
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
        """Judge the options of an alias without connecting to anything.

        A subclass extends it with checks of its values; it is asked for those only when names are
        right. Messages never contain values of `secret_options`.
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
        """Judge the values of options whose names are right; none is wrong here."""
        return []

    @classmethod
    def check_deployment(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Judge what only ``manage.py check --deploy`` asks about; nothing here."""
        return []
