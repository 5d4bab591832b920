"""The admin: what was sent, what became of it, and what an operator does about it.

History is read-only, numbers are masked but to those who may see them, and a code is never shown.
"""

from .calls import CallAdmin
from .fraud import GuardDecisionAdmin, RefusalAdmin
from .phones import PhoneAdmin
from .rules import RuleAdmin
from .verifications import VerificationAdmin

__all__ = [
    "CallAdmin",
    "GuardDecisionAdmin",
    "PhoneAdmin",
    "RefusalAdmin",
    "RuleAdmin",
    "VerificationAdmin",
]
