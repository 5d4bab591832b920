"""The admin: what was sent, what became of it, and what an operator does about it.

History is read-only, numbers are masked but to those who may see them, and a code is never shown. Private: Django finds it.
"""

from . import calls, fraud, phones, rules, verifications  # noqa: F401  (registers the admins)
