"""The "what if" page: replay the last days' calls under other settings, before switching."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import formats, timezone
from django.utils.translation import gettext as _

from ..conf import FlashcallSettings, conf
from ..models import Call
from ..protection import replay
from .base import HistoryAdmin, format_datetime, may

DAYS = 30

MOST_CALLS = 5_000
"""Calls that a page replays, so that it responds in a few seconds; the command replays all."""


class SettingsForm(forms.Form):
    """The settings to try, at first those of the site. An empty limit is switched off."""

    FRAUD_GUARD = forms.ChoiceField(
        choices=[(name, name) for name in ("off", "record", "deny")], label="FRAUD_GUARD"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in replay.SETTINGS:
            if name not in self.fields:
                self.fields[name] = forms.CharField(label=name, max_length=20, required=False)
                self.fields[name].widget.attrs["class"] = "vTextField"
            self.fields[name].initial = written(name)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name in set(replay.SETTINGS) & set(cleaned):
            value = cleaned[name] or None
            try:
                cleaned[name] = getattr(FlashcallSettings, name).parse(value)
            except ValueError:
                self.add_error(name, _('Enter a rate such as "20/hour".'))
        return cleaned


def written(name: str) -> Any:
    """Return the value of a setting as the site has written it."""
    return conf.given.get(name, getattr(FlashcallSettings, name).default)


def page(admin: HistoryAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form and, if it was sent, what the site's settings and the others would do."""
    if not (may(request, "block_phone") and admin.has_view_permission(request)):
        raise PermissionDenied
    form = SettingsForm(request.GET if "FRAUD_GUARD" in request.GET else None)
    context = {
        **admin.admin_site.each_context(request),
        "title": _("What if"),
        "opts": admin.opts,
        "media": admin.media,
        "form": form,
        "days": DAYS,
    }
    if form.is_valid():
        since = _since(timezone.now())
        own = replay.replay(replay.placed(since), replay.values({}))
        tried = replay.replay(replay.placed(since), form.cleaned_data)
        context |= {"since": format_datetime(since), "calls": own.calls, "rows": _rows(own, tried)}
    return TemplateResponse(request, "admin/django_flashcall/what_if.html", context)


def _since(now: datetime) -> datetime:
    """Return when the replay begins: some days ago, or later if there were very many calls."""
    since = now - timedelta(days=DAYS)
    calls = Call.objects.filter(created_at__gte=since).order_by("-created_at")
    oldest = calls.values_list("created_at", flat=True)[MOST_CALLS : MOST_CALLS + 1].first()
    return oldest or since


def _rows(own: replay.Outcome, tried: replay.Outcome) -> list[tuple[Any, str, str]]:
    """Return the table: what is counted, under the site's settings and under the others."""

    def row(name: Any, value: Any) -> tuple[Any, str, str]:
        return name, str(value(own)), str(value(tried))

    def share(outcome: replay.Outcome) -> str:
        percent = 100 * outcome.refused / outcome.honest if outcome.honest else 0
        return f"{outcome.refused} ({formats.number_format(percent, 2)} %)"

    rows = [
        row(_("Calls saved: nobody completed them"), lambda outcome: outcome.saved),
        row(_("Calls refused that people completed"), share),
        row(_("Such calls delayed until the person asks again"), lambda outcome: outcome.delayed),
    ]
    names = {**own.reasons, **tried.reasons}
    for name in (name for name in replay.SETTINGS if name in names):
        text = _("Refused by %(setting)s") % {"setting": name}
        rows.append((text, str(own.reasons[name]), str(tried.reasons[name])))
    return rows
