"""How many digits allauth's codes have."""

from __future__ import annotations

from allauth.account import app_settings

from ...conf import conf


def code_length() -> int:
    """Return the number of digits of allauth's codes.

    It is the ``length`` in ``ACCOUNT_PHONE_VERIFICATION_CODE_FORMAT`` or
    ``ALLAUTH_USER_CODE_FORMAT``, or else ``CODE_LENGTH``.
    """
    return app_settings.PHONE_VERIFICATION_CODE_FORMAT.get("length") or conf.CODE_LENGTH
