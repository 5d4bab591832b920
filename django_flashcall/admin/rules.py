"""The admin of rules, which allow or deny numbers and stop channels. They apply at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import phonenumbers
from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import phones
from ..exceptions import InvalidPhone
from ..models import Rule
from ..models.protection import LONGEST_RANGE
from .base import ModelAdmin, StrictSortChangeList, badge, format_datetime, mask_numbers, may
from .display import channel_name

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Rule]
else:
    ModelForm = forms.ModelForm


class RuleForm(ModelForm):
    """Form that accepts a number or prefix in any format, and checks the country."""

    class Meta:
        model = Rule
        fields = ("action", "prefix", "country", "channel", "note")
        widgets = {"note": forms.Textarea(attrs={"rows": 2, "cols": 60, "maxlength": 300})}  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "prefix" in self.fields:
            # Leave room for spaces and brackets, which are removed before saving.
            self.fields["prefix"] = forms.CharField(
                label=self.fields["prefix"].label,
                required=False,
                max_length=phones.MAX_TYPED_LENGTH,
                help_text=_("For example +7 916, or a full number: 8 (916) 123-45-67."),
            )
        if "country" in self.fields:
            # The browser must not shorten a name: "Germany" would be GE, which is Georgia.
            country = self.fields["country"]
            country.widget.attrs.pop("maxlength", None)
            country.widget.attrs["size"] = 4
            country.validators = []  # `clean_country` says it better than "at most 2 characters"

    def clean_prefix(self) -> str:
        typed: str = self.cleaned_data["prefix"]
        if not typed:
            return ""
        try:
            return phones.parse_prefix(typed)
        except InvalidPhone:
            raise ValidationError(
                _("Start with a plus and the country code, for example +7916."), "invalid"
            ) from None

    def clean_country(self) -> str:
        typed: str = self.cleaned_data["country"].strip()
        country = typed.upper()  # that of ß is SS, another country
        if typed and not (typed.isascii() and country in phonenumbers.SUPPORTED_REGIONS):
            raise ValidationError(
                _("Unknown country. Use a two-letter code such as RU or KZ."), "invalid"
            )
        return country


@admin.register(Rule)
class RuleAdmin(ModelAdmin):
    form = RuleForm
    list_display = ("target", "shown_action", "note", "masked_author", "created")
    list_filter = ("action", "channel")
    list_select_related = ("created_by",)
    ordering = ("-channel", "-created_at")
    sortable_by = ("created",)
    search_fields = ("prefix",)  # see `get_search_results`
    search_help_text = _("A full phone number, a prefix, or a country code.")
    list_per_page = 100
    empty_value_display = "–"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    class Media:
        css = {"all": ("django_flashcall/admin.css",)}  # noqa: RUF012

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if self._is_hidden(request, obj):
            # Without seeing the number, a user may change only the note.
            return ["target", "shown_action", "note", "masked_author", "created"]
        fields = ["action", "prefix", "country", "channel", "note"]
        author = "created_by" if may(request, "view_number") else "masked_author"
        return [*fields, author, "created"] if obj else fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        description = _("Fill in exactly one: number, country or channel.")
        fields = self.get_fields(request, obj)
        if self._is_hidden(request, obj):
            return [(None, {"fields": fields})]
        return [(None, {"fields": fields, "description": description})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["target", "shown_action", "created_by", "masked_author", "created"]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup.split("__")[0] in self.list_filter

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[StrictSortChangeList]:
        return StrictSortChangeList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """Find rules by exact match, so that digits of a masked number cannot be guessed."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if len(term) == 2 and term.isalpha():
            return queryset.filter(country=term.upper()), False
        try:
            return queryset.filter(prefix=phones.parse_prefix(term)), False
        except InvalidPhone:
            return queryset.none(), False

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)

    @admin.display(description=_("applies to"))
    def target(self, rule: Rule) -> str:
        if rule.channel:
            return badge("refused", _("Channel stopped: %s") % channel_name(rule.channel))
        if len(rule.prefix) > LONGEST_RANGE:
            return phones.mask(rule.prefix)
        return rule.prefix or rule.country

    @admin.display(description=_("applies to"))
    def whole_target(self, rule: Rule) -> str:
        return rule.prefix if rule.prefix else self.target(rule)

    @admin.display(description=_("action"))
    def shown_action(self, rule: Rule) -> str:
        tone = "good" if rule.action == Rule.Action.ALLOW else "refused"
        return badge(tone, Rule.Action(rule.action).label)

    @admin.display(description=_("created by"))
    def masked_author(self, rule: Rule) -> str:
        return mask_numbers(str(rule.created_by or "–"))

    @admin.display(description=_("created"), ordering="-created_at")
    def created(self, rule: Rule) -> str:
        return format_datetime(rule.created_at)

    def get_list_display(self, request: HttpRequest) -> Any:
        if may(request, "view_number"):
            return ["whole_target", "shown_action", "note", "created_by", "created"]
        return self.list_display

    def _is_hidden(self, request: HttpRequest, rule: Rule | None) -> bool:
        """Return True if the rule has more digits of a number than the user may see."""
        return (
            rule is not None
            and len(rule.prefix) > LONGEST_RANGE
            and not may(request, "view_number")
        )
