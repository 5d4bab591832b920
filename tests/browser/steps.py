"""What a person does on the pages, and what time does to the rows."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone, translation
from django.utils.translation import gettext, pgettext

from django_flashcall.models import Call, Phone

NUMBER = "+79161234567"
PASSWORD = "correct horse 9"


def word(page, text, context=None):
    """Return a text in the language of the page that is open."""
    with translation.override(page.locator("html").get_attribute("lang")):
        return pgettext(context, text) if context else gettext(text)


def press(page, name):
    page.get_by_role("button", name=word(page, name)).click()


def start(page, site, number=NUMBER, path="signup/"):
    """Ask for a call, and come to the page that the code is typed into."""
    page.goto(site + path)
    page.get_by_label(word(page, "Phone number")).fill(number)
    press(page, "Call me")
    page.locator("[name=code]").wait_for()


def code_field(page):
    return page.get_by_label(word(page, "Code", "phone verification"), exact=True)


def wrong(code):
    return "1" * len(code) if code[0] == "0" else "0" * len(code)


def fill_signup(page, name="ann"):
    page.locator("[name=username]").fill(name)
    page.locator("[name=email]").fill(f"{name}@example.com")
    page.get_by_label(word(page, "Password")).fill(PASSWORD)


def later(seconds):
    """Let time pass, as the rows tell it."""
    passed = timezone.now() - timedelta(seconds=seconds)
    Call.objects.update(created_at=passed)
    Phone.objects.update(last_called_at=passed)
