"""Situations between a backend and its provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ..exceptions import (
    DuplicateRejected,
    Misconfigured,
    NumberRejected,
    ProviderError,
    TemporaryFailure,
)


class Situation(Enum):
    """How the provider handles all requests from now on; `RECOVERS` changes after the first."""

    ACCEPTED = "places every call"
    NUMBER_REJECTED = "rejects the number"
    DUPLICATE = "rejects the call as a duplicate"
    TEMPORARY = "reports that it cannot place calls at the moment"
    MISCONFIGURED = "rejects credentials, account or request"
    ECHO = "rejects the request with an error text that contains the password, code and number"
    RECOVERS = "fails to place the first call, and places all later ones"
    UNCERTAIN = "returns an error that does not say whether the call was placed"
    LOST = "places the call, but its response is lost"
    SENSELESS = "places the call, but its response is invalid"
    UNREACHABLE = "refuses connections"


REJECTIONS: Mapping[Situation, type[ProviderError]] = {
    Situation.NUMBER_REJECTED: NumberRejected,
    Situation.DUPLICATE: DuplicateRejected,
    Situation.TEMPORARY: TemporaryFailure,
    Situation.MISCONFIGURED: Misconfigured,
    Situation.UNREACHABLE: TemporaryFailure,
}
"""Errors that a backend raises if certainly no call was placed."""


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A call that the provider placed: the phone rang.

    Attributes:
        phone: the number in E.164 format with the plus sign.
        code: the digits that were shown or spoken.
        provider_id: the provider's identifier of the call; empty if there is none.
        reference: our identifier of the call, as the provider received it; empty if it did not.
    """

    phone: str
    code: str
    provider_id: str = ""
    reference: str = ""
