"""The challenge of the extra `altcha` in a real browser, under a strict content policy."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from django_flashcall import services
from django_flashcall.models import Call

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = {"viewport": {"width": 390, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "390 px"])
def test_the_browser_solves_it(visit, site, provider, configure, options):
    for n in range(8):
        services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
    Call.objects.update(created_at=timezone.now() - timedelta(minutes=30))
    configure(CHALLENGE="django_flashcall.contrib.altcha.is_solved")
    page = visit(**options)
    page.goto(site)
    page.locator("[name=phone]").fill("+79161234567")
    page.get_by_role("button", name="Call me").click()
    expect(page.get_by_text("Confirm that you're not a robot, then try again.")).to_be_visible()
    expect(page.get_by_text("Thanks, you can continue.")).to_be_visible()
    page.get_by_role("button", name="Call me").click()
    expect(page.locator("h1")).to_have_text("Enter the last 4 digits of the caller's number")
