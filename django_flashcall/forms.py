"""Forms and fields for the number, the code and the account, and a mixin for your own forms."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django import forms
from django.contrib.auth import get_user_model, password_validation
from django.contrib.auth.forms import UsernameField
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import CharField
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from . import phones, services, sessions
from .conf import VOICE_CODE, conf
from .exceptions import FlashcallError, InvalidCode, InvalidPhone, InvalidToken
from .models import Phone, Verification
from .redaction import Secret
from .verification import codes
from .verification.accounts import is_name_taken

__all__ = [
    "CodeField",
    "CodeForm",
    "PhoneField",
    "PhoneForm",
    "PhoneTokenField",
    "SignupForm",
    "VerifiedPhoneMixin",
]


def channel_label(channel: str, code_length: int) -> str:
    """Return the label of a channel for visitors.

    Args:
        channel: the name of the channel.
        code_length: number of digits of the code.
    """
    if channel == VOICE_CODE:
        return gettext("Voice call: answer it and a voice reads you the code")
    words = ngettext(
        "Missed call: the code is the last %(digits)d digit of the caller's number",
        "Missed call: the code is the last %(digits)d digits of the caller's number",
        code_length,
    )
    return words % {"digits": code_length}


def add_service_error(form: forms.BaseForm, error: FlashcallError) -> None:
    """Add an error of the services to the form, at its field."""
    _add_error(form, error.field, str(error), error.error_code)


def add_stored_error(form: forms.BaseForm, refusal: sessions.StoredError) -> None:
    """Add an error that the session stored for this page."""
    _add_error(form, refusal["field"], refusal["message"], refusal["error_code"])


def _add_error(form: forms.BaseForm, field: str | None, message: str, error_code: str) -> None:
    if not form.is_bound:
        form.cleaned_data = {}  # `add_error` needs it
    error = ValidationError(message, code=error_code)
    form.add_error(field if field in form.fields else None, error)


def focus(form: forms.BaseForm) -> None:
    """Set ``autofocus`` on the first field with an error, or on the first field.

    If there are non-field errors, the template focuses them instead.
    """
    if form.non_field_errors() or not form.fields:
        return
    wrong = [name for name in form.fields if name in form.errors]
    name = next(iter(wrong or form.fields))
    form.fields[name].widget.attrs["autofocus"] = True


class PhoneField(forms.Field):
    """A phone number in any common format; the value is in E.164 format."""

    widget = forms.TextInput(attrs={"type": "tel", "autocomplete": "tel"})
    default_error_messages: ClassVar[Any] = {"required": InvalidPhone.message}

    def to_python(self, value: Any) -> str:
        try:
            return phones.parse(str(value)) if value else ""
        except FlashcallError as error:
            raise ValidationError(str(error), code=error.error_code) from None


class CodeField(forms.Field):
    """A code as people type it; the value is normalised and hidden from tracebacks."""

    widget = forms.TextInput(
        attrs={
            "inputmode": "numeric",
            "autocomplete": "one-time-code",
            "autocapitalize": "off",
            "autocorrect": "off",
            "spellcheck": "false",
        }
    )

    def to_python(self, value: Any) -> Secret:
        return codes.normalise("" if value is None else str(value))


class PhoneTokenField(forms.Field):
    """The token of a verified number that your page or script got from the API.

    The value is the token: pass it to `services.redeem` when you save the form. If the pages
    verify the number, the session stores the token: use `VerifiedPhoneMixin` instead.

    Args:
        purpose: the purpose that the number must be verified for.

    Attributes:
        request: the current request; set it in the form's ``__init__``. Without it, tokens that
            are tied to a user or a session are rejected.
    """

    widget = forms.HiddenInput
    default_error_messages: ClassVar[Any] = {"required": InvalidToken.message}
    request: HttpRequest | None = None

    def __init__(self, *, purpose: str = "signup", **kwargs: Any) -> None:
        self.purpose = purpose
        super().__init__(**kwargs)

    def to_python(self, value: Any) -> Secret:
        return Secret("" if value is None else value)

    def validate(self, value: Secret) -> None:
        super().validate(value)
        if not value:
            return
        visitor = sessions.visitor(self.request) if self.request else {}
        try:
            services.read_token(value, purpose=self.purpose, **visitor)
        except FlashcallError as error:
            raise ValidationError(str(error), code=error.error_code) from None


class PhoneForm(forms.Form):
    """The number to verify, and the channel if there is a choice."""

    phone = PhoneField(label=_("Phone number"))
    channel = forms.TypedChoiceField(
        label=_("How should we verify your number?"),
        required=False,
        empty_value=None,
        widget=forms.RadioSelect,
    )

    def __init__(self, *args: Any, purpose: str = "signup", **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        config = conf.PURPOSES.get(purpose)
        channels = conf.channels_with(config.code_length) if config else ()
        if len(channels) < 2:
            del self.fields["channel"]
            return
        choice = cast(forms.ChoiceField, self.fields["channel"])
        length = config.code_length if config else conf.CODE_LENGTH
        choice.choices = [(channel, channel_label(channel, length)) for channel in channels]
        choice.initial = channels[0]
        choice.error_messages["invalid_choice"] = _("This type of call isn't available.")


class CodeForm(forms.Form):
    """The code of a verification.

    Args:
        length: number of digits of the code.
    """

    code = CodeField(label=pgettext_lazy("phone verification", "Code"))

    def __init__(self, *args: Any, length: int, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        code = self.fields["code"]
        code.error_messages["required"] = str(InvalidCode(length))
        code.widget.attrs.update({"data-length": length, "size": length})


class VerifiedPhoneMixin:
    """Add the number that the pages verified in this session to any form.

    The form is valid only if there is such a number. When you save the form, call `redeem_phone`
    in the same transaction::

        class OrderForm(VerifiedPhoneMixin, forms.ModelForm):
            phone_purpose = "order"

        form = OrderForm(request.POST, request=request)

    Attributes:
        phone_purpose: the purpose that the number must be verified for.
        verification: the verification of the number, set when the form is valid.
    """

    phone_purpose = "signup"
    verification: Verification

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        self.request = request
        super().__init__(*args, **kwargs)

    def clean(self) -> Any:
        cleaned = super().clean()  # type: ignore[misc]
        try:
            self.verification = sessions.verification(self.request, purpose=self.phone_purpose)
        except FlashcallError as error:
            add_service_error(self, error)  # type: ignore[arg-type]
        return cleaned

    def redeem_phone(self, user: Any = None) -> Phone:
        """Redeem the token of the number; see `services.redeem` for its errors.

        Args:
            user: the account that gets the number; None keeps the current owner.
        """
        return sessions.redeem(self.request, purpose=self.phone_purpose, user=user)


class SignupForm(VerifiedPhoneMixin, forms.ModelForm):  # type: ignore[type-arg]
    """Sign up with any user model: ``USERNAME_FIELD``, ``REQUIRED_FIELDS`` and a password.

    The number comes only from the session. To add fields, subclass the form and add them to
    ``Meta.fields``: they are saved in the new account.
    """

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = get_user_model()
        fields: ClassVar[Any] = [model.USERNAME_FIELD, *model.REQUIRED_FIELDS]
        field_classes: ClassVar[Any] = (
            {model.USERNAME_FIELD: UsernameField}
            if type(model._meta.get_field(model.USERNAME_FIELD)) is CharField
            else {}
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        if conf.USER_PHONE_FIELD:
            self.fields.pop(conf.USER_PHONE_FIELD, None)
        model = self._meta.model
        if username := self.fields.get(model.USERNAME_FIELD):
            username.required = True
            username.widget.attrs.update(
                {"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
            )
        if email := self.fields.get(model.get_email_field_name()):
            email.widget.attrs.setdefault("autocomplete", "email")
        self.fields["password"].help_text = password_validation.password_validators_help_text_html()

    def clean_password(self) -> str:
        return Secret(self.cleaned_data["password"])

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        # Validate here, where the instance has the other values: a password must not equal them.
        if password := self.cleaned_data.get("password"):
            try:
                password_validation.validate_password(password, user=self.instance)
            except ValidationError as error:
                self.add_error("password", error)

    def save(self, commit: bool = True) -> Any:
        """Create the account and assign the number to it, in one transaction.

        Raises:
            ValueError: `commit` is False, which is not possible here.
            InvalidToken, PhoneTaken: see `services.sign_up`; no account is created.
            ValidationError: someone else took the username in the meantime.
        """
        if not commit:
            raise ValueError("The account and its number are saved together.")
        try:
            user, self.phone = sessions.sign_up(self.request, self.create_user)
        except IntegrityError:
            self.full_clean()
            if self.is_valid():
                model = self._meta.model
                name = model.USERNAME_FIELD
                if not is_name_taken(self.cleaned_data.get(name)):
                    raise
                self.add_error(name, self.instance.unique_error_message(model, (name,)))
            raise ValidationError(self.errors.as_data()) from None
        return user

    def create_user(self, number: str) -> Any:
        """Create and save the account.

        Args:
            number: the verified number in E.164, for ``USER_PHONE_FIELD``.
        """
        given = self.cleaned_data
        fields = {name: given[name] for name in self._meta.fields or () if name in given}
        if name := conf.USER_PHONE_FIELD:
            fields[name] = number
        return services.create_user(**{**fields, "password": given["password"]})
