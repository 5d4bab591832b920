"""What can happen between a backend and its provider."""

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
    """What the provider does, from now on and whatever it is asked, but for `RECOVERS`."""

    ACCEPTED = "takes every call, and places it"
    NUMBER_REJECTED = "knows no such number"
    DUPLICATE = "takes the call for a repeat of another, and places none"
    TEMPORARY = "cannot place calls at the moment, and says so"
    MISCONFIGURED = "rejects credentials, account or request"
    ECHO = "rejects the request with words that repeat all of it: password, code, number"
    RECOVERS = "cannot place the first call asked for, and takes every later one"
    UNCERTAIN = "answers with an error that does not say whether the call was placed"
    LOST = "places the call, and its answer is lost"
    SENSELESS = "places the call, and answers what makes no sense"
    UNREACHABLE = "cannot be connected to"


REJECTIONS: Mapping[Situation, type[ProviderError]] = {
    Situation.NUMBER_REJECTED: NumberRejected,
    Situation.DUPLICATE: DuplicateRejected,
    Situation.TEMPORARY: TemporaryFailure,
    Situation.MISCONFIGURED: Misconfigured,
    Situation.UNREACHABLE: TemporaryFailure,
}
"""What a backend raises where certainly no call was placed."""


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A call that the provider placed, so that the phone rang.

    Attributes:
        phone: in E.164 with the plus.
        code: the digits that the phone showed or heard.
        provider_id: the provider's identifier of the call, empty if it tells none.
        reference: our own, as the provider got it; empty if it is not told.
    """

    phone: str
    code: str
    provider_id: str = ""
    reference: str = ""
