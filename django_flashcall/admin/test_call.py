"""The test call page: place a call and see how the provider responds."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import phones, services
from ..conf import conf
from ..exceptions import FlashcallError, PhoneNotAllowed
from ..models import Call, Channel, Phone, Verification
from ..protection import visitors
from .base import HistoryAdmin, format_duration, log, may

WHAT_ALLOWS_NUMBERS = gettext_lazy(
    "The settings ALLOWED_COUNTRIES and NUMBER_TYPES and the rules decide which numbers are called."
)


class CallForm(forms.Form):
    """The phone number and channel of a test call."""

    phone = forms.CharField(
        label=gettext_lazy("Phone number"),
        max_length=phones.MAX_TYPED_LENGTH,
        help_text=gettext_lazy(
            "Use a number that you may call. The phone will ring, and the call costs money."
        ),
        widget=forms.TextInput(attrs={"type": "tel", "autocomplete": "tel", "class": "vTextField"}),
    )
    channel = forms.ChoiceField(label=gettext_lazy("Channel"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = conf.channels_with(_purpose().code_length)
        self.fields["channel"].choices = [(name, Channel(name).label) for name in offered]  # type: ignore[attr-defined]


def page(admin: HistoryAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form. On POST, place the call and redirect to the timeline of its verification."""
    if not (may(request, "place_test_call") and admin.has_view_permission(request)):
        raise PermissionDenied
    form = CallForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        verification = _place(request, form)
        if verification is not None:
            name = "admin:django_flashcall_verification_change"
            page = reverse(name, args=(verification.pk,), current_app=admin.admin_site.name)
            return HttpResponseRedirect(page)
    return TemplateResponse(
        request,
        "admin/django_flashcall/test_call.html",
        {
            **admin.admin_site.each_context(request),
            "title": _("Test call"),
            "opts": admin.opts,
            "media": admin.media,
            "form": form,
        },
    )


def _place(request: HttpRequest, form: CallForm) -> Verification | None:
    """Place the call and return its verification, or None after adding an error to the form."""
    started_at = timezone.now()
    refusal: FlashcallError | None = None
    verification: Verification | None
    try:
        verification = services.start(
            form.cleaned_data["phone"],
            channel=form.cleaned_data["channel"],
            purpose=_purpose().name,
            user=request.user,
            ip=visitors.client_ip(request),
        )
    except FlashcallError as error:
        refusal = error
        # If the provider rejected the call, its rows say more than the error.
        found = Verification.objects.filter(user=request.user.pk, created_at__gte=started_at)
        verification = found.select_related("phone").order_by("-created_at").first()
    if refusal is not None and verification is None:
        field = refusal.field if refusal.field in form.fields else None
        form.add_error(field, str(refusal))
        if isinstance(refusal, PhoneNotAllowed):
            form.add_error(field, WHAT_ALLOWS_NUMBERS)
    if verification is not None:
        _tell(request, verification.newest_call)
        phone: Phone = verification.phone
        text = _("Placed a test call to %(number)s") % {"number": phone.masked}
        log(request, verification, ADDITION, text, str(verification))
    return verification


def _tell(request: HttpRequest, call: Call) -> None:
    """Say what became of the call, as far as it is known."""
    if call.is_test:
        messages.success(request, _("This is a test number: no call was placed."))
    elif call.status == Call.Status.REJECTED:
        messages.error(request, _("The provider rejected the call; see the timeline below."))
    elif call.status == Call.Status.QUEUED:
        messages.info(request, _("The call was handed to a worker; see the timeline below."))
    elif call.status == Call.Status.UNKNOWN:
        text = _("The outcome is unknown: the phone may be ringing. See the timeline below.")
        messages.warning(request, text)
    else:
        text = _("The provider responded in %(duration)s.")
        messages.success(request, text % {"duration": format_duration(call.duration)})


def _purpose() -> Any:
    """Return the first purpose in the settings. Any would do: a test call is never redeemed."""
    return next(iter(conf.PURPOSES.values()))
