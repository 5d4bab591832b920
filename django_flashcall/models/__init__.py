"""The models. Those that are not in ``__all__`` are used by the app alone."""

from .common import Channel
from .dispatch import CircuitBreaker
from .dispatch import QueuedCall as QueuedCall
from .events import Attempt, DeliveryReport
from .phones import Phone
from .protection import CallCount as CallCount
from .protection import GuardDecision, Refusal, Rule
from .protection import GuardRequest as GuardRequest
from .verifications import Call, Verification

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
