"""allauth's forms for the code, which say where to find it."""

from __future__ import annotations

from typing import Any

from allauth.account import forms
from allauth.core import context
from django.utils.translation import gettext, ngettext

from ...conf import VOICE_CODE
from ...insight.health import working_channel
from .codes import code_length

__all__ = ["ConfirmLoginCodeForm", "VerifyPhoneForm"]


class VerifyPhoneForm(forms.VerifyPhoneForm):
    """For ``ACCOUNT_FORMS["verify_phone"]``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _explain(self)


class ConfirmLoginCodeForm(forms.ConfirmLoginCodeForm):
    """For ``ACCOUNT_FORMS["confirm_login_code"]``. Codes sent by email are not explained."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stage = getattr(context.request, "_login_stage", None)
        if stage is not None and "phone" in stage.state:
            _explain(self)


def _explain(form: Any) -> None:
    digits = code_length()
    field = form.fields["code"]
    field.widget.attrs["inputmode"] = "numeric"
    if working_channel(digits) == VOICE_CODE:
        field.help_text = gettext("A voice reads you the code when you answer the call.")
    else:
        words = ngettext(
            "The last digit of the number that called you.",
            "The last %(digits)d digits of the number that called you.",
            digits,
        )
        field.help_text = words % {"digits": digits}
