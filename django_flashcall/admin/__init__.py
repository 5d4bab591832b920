"""The admin of phones, verifications, calls, rules and fraud guard decisions.

History is read-only. Numbers are masked unless the user has ``view_number``. Codes are never shown.
Private: Django imports it.
"""

from . import calls, fraud, phones, rules, verifications  # noqa: F401  (registers the model admins)
