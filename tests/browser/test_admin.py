"""The admin in a real browser: charts follow the theme, and are tables without scripts."""

from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone

from django_flashcall import services
from django_flashcall.exceptions import FlashcallError
from django_flashcall.models import Call, Rule

from ..operators import url

pytestmark = pytest.mark.django_db(transaction=True)

PAINTED = """
canvas => {
  const {width, height} = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const colours = new Set();
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] === 255) colours.add(`${pixels[i]},${pixels[i + 1]},${pixels[i + 2]}`);
  }
  return [...colours].sort();
}
"""


@pytest.fixture
def seen(visit, live_server, provider, configure, admin_client):
    """Opens a page of the admin, where a few things have happened."""
    configure(COOLDOWN=0, CALLS_PER_IP=None, CALLS_PER_PREFIX=None)
    for ending in (4567, 4568, 9906, 9908):
        try:
            services.start(f"+7916123{ending}", ip="203.0.113.7")
        except FlashcallError:
            continue
    Call.objects.filter(status="sent").update(
        mcc_mnc="25001", price="0.45", created_at=timezone.now() - timedelta(hours=30)
    )
    Rule.objects.create(action="deny", channel="voice_code", note="not paid")

    def seen(path, **options):
        page = visit(**options)
        cookie = admin_client.cookies["sessionid"]
        page.context.add_cookies(
            [{"name": "sessionid", "value": cookie.value, "url": live_server.url}]
        )
        page.goto(live_server.url + path)
        return page

    yield seen
    # An admin has no icon; and Django writes a style of its own into lists without actions.
    foreign = ("404 (Not Found)", "Applying inline style")
    visit.complaints[:] = [
        said for said in visit.complaints if not any(words in said for words in foreign)
    ]


def test_charts_are_drawn_and_follow_the_theme(seen):
    page = seen(url("call_statistics"), color_scheme="light")
    charts = page.locator("canvas")
    assert charts.count() == page.locator(".flashcall-figure table").count() == 7
    light = [chart.evaluate(PAINTED) for chart in charts.all()]
    assert all(len(colours) > 2 for colours in light)
    assert not page.locator(".flashcall-figure table").first.is_visible()
    page.locator(".flashcall-figure summary").first.click()
    assert page.locator(".flashcall-figure table").first.is_visible()
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    # The charts are made anew before the browser comes to this: observers go first.
    page.evaluate("new Promise(requestAnimationFrame)")
    dark = [chart.evaluate(PAINTED) for chart in charts.all()]
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_tables_without_scripts(seen):
    page = seen(url("call_statistics"), java_script_enabled=False)
    tables = page.locator(".flashcall-figure table")
    assert tables.count() == 7
    assert all(table.is_visible() for table in tables.all())
    assert not page.locator("canvas").first.is_visible()


def test_the_buttons_of_a_phone(seen):
    call = Call.objects.filter(status="sent").first()
    page = seen(url("phone", call.phone_id))
    page.get_by_role("button", name="Block").click()
    page.get_by_label("Reason, for your colleagues").fill("asked us to stop")
    page.get_by_role("button", name="Block").click()
    page.get_by_text("blocked", exact=True).wait_for()
    assert page.url.endswith(url("phone", call.phone_id))
    assert Rule.objects.get(prefix=call.phone.number).note == "asked us to stop"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_our_part_of_every_page_is_accessible_and_fits_a_phone(seen, scheme):
    call = Call.objects.filter(status="sent").first()
    page = seen("/admin/", color_scheme=scheme, viewport={"width": 390, "height": 800})
    origin = page.url.removesuffix("/admin/")
    for path, part in (
        ("/admin/django_flashcall/", ".flashcall-health"),
        ("/admin/django_flashcall/", ".flashcall-mend"),
        (url("verification", call.verification_id), ".flashcall-timeline"),
        (url("call_statistics"), ".flashcall-statistics"),
        (url("call"), "#result_list"),
    ):
        page.goto(origin + path)
        found = Axe().run(page, context=part, options={"runOnly": ["wcag2a", "wcag2aa"]})
        assert not found.response["violations"], found.generate_report()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, path
