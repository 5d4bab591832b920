"""The example site in a real Chromium: whoever tries the demo signs up by reading the phone."""

from __future__ import annotations

import json
import re
from itertools import count

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .steps import code_field, fill_signup

NUMBERS = (f"+7 916 200-{n // 100:02}-{n % 100:02}" for n in count(1))  # each is called once
FORGET_CALLS = """
from django_flashcall.models import Phone
Phone.objects.update(last_called_at=None)  # as if its cooldown were over
"""
PHONE_WIDTH = {"width": 360, "height": 740}
RULES = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
}


@pytest.fixture
def site(demo):
    """The demo in the place of the pages' own site."""
    return demo.site


def ask_for_a_call(page: Page, channel: str = "flash_call") -> None:
    page.get_by_label("Phone number").fill(next(NUMBERS))
    page.locator(f"[name=channel][value={channel}]").check()
    page.get_by_role("button", name="Call me").click()
    page.wait_for_url(re.compile(r"/phone/[0-9a-f-]{36}/"))


def digits_on(page: Page) -> str:
    """Read the phone, as a person does: where it is small, its strip."""
    shown = page.locator(".vp-call mark, .vp-strip mark").locator("visible=true").first
    return shown.inner_text()


def type_code(page: Page, code: str) -> None:
    """Type it; the last digit sends it."""
    code_field(page).press_sequentially(code)


def verify(page: Page) -> None:
    ask_for_a_call(page)
    type_code(page, digits_on(page))


def sign_up(page: Page, site: str, username: str) -> None:
    page.goto(site)
    verify(page)
    fill_signup(page, username)
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/profile/")


def place_call(site: str) -> str:
    """Have the API call somebody while a page is open; return the number."""
    number = next(NUMBERS)
    started = requests.post(f"{site}api/verifications/", json={"phone": number})
    assert started.status_code == 201
    return number


@pytest.mark.parametrize("width", [1280, 360])
def test_signup_and_change_of_number(visit, site, width):
    page = visit(viewport={"width": width, "height": 740})
    sign_up(page, site, f"width{width}")
    old = page.locator("dd").first.inner_text()
    page.get_by_role("link", name="Change the number").click()
    verify(page)
    page.wait_for_url("**/profile/")
    expect(page.locator("dd").first).not_to_have_text(old)


@pytest.mark.parametrize("width", [1280, 360])
def test_logout_and_login_by_phone(visit, site, demo, width):
    page = visit(viewport={"width": width, "height": 740})
    sign_up(page, site, f"login{width}")
    number = page.locator("dd").first.inner_text()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in by phone").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in by phone")
    demo.manage("shell", "-c", FORGET_CALLS)
    page.get_by_label("Phone number").fill(number)
    page.get_by_role("button", name="Call me").click()
    page.locator("[name=code]").wait_for()
    expect(page.get_by_role("heading", level=1)).to_contain_text("6 digits")
    page.locator(".vp-call mark, .vp-strip mark").locator("visible=true").first.wait_for()
    type_code(page, digits_on(page))
    page.wait_for_url("**/profile/")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"login{width}")


def test_the_phone_rings_and_hangs_up_on_a_page_that_is_open(visit, site):
    page = visit()
    page.goto(site)
    number = place_call(site)
    ringing = page.locator(".vp-call", has_text=number)
    expect(ringing).to_be_visible()
    digits = digits_on(page)
    told = page.locator(".vp [role=status]")
    expect(told).to_have_text(re.compile(f"ends in {' '.join(digits)}"))
    expect(ringing).to_have_count(0, timeout=20_000)
    latest = page.locator(".vp-missed").first
    expect(latest).to_be_visible()
    expect(latest.locator("mark")).to_have_text(digits)


def test_a_declined_call_stays_declined(visit, site):
    page = visit()
    page.goto(site)
    ask_for_a_call(page)
    digits = digits_on(page)
    page.get_by_role("button", name="Decline").click()
    missed = page.locator(".vp-missed:visible mark").first
    expect(missed).to_have_text(digits)
    page.reload()
    expect(missed).to_have_text(digits)
    expect(page.locator(".vp-call")).to_have_count(0)


def test_a_voice_code_is_shown_and_spoken(visit, site):
    page = visit()
    page.add_init_script(
        "window.spoken = []; speechSynthesis.speak = (words) => window.spoken.push(words.text);"
    )
    page.goto(site)
    ask_for_a_call(page, "voice_code")
    page.locator(".vp summary").click()
    said = page.locator(".vp-answered")
    expect(said).to_contain_text("Your code is")
    words = said.inner_text().strip("“”")
    assert page.evaluate("window.spoken") == [words]
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator(".vp-said").first).to_contain_text(words)
    type_code(page, "".join(re.findall("[0-9]", words)))
    page.wait_for_url(re.compile("/phone/signup/"))


def test_the_strip_opens_the_phone(visit, site):
    page = visit(viewport=PHONE_WIDTH)
    page.goto(site)
    strip = page.locator(".vp-strip")
    expect(page.locator(".vp-device")).to_be_hidden()
    place_call(site)
    expect(strip).to_contain_text("Incoming call")
    strip.click()
    expect(strip).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("button", name="Decline")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE_WIDTH["width"]


@pytest.mark.parametrize(
    ("motion", "animation"), [("reduce", "none"), ("no-preference", "vp-shake")]
)
def test_it_shakes_for_those_who_like_it(visit, site, motion, animation):
    page = visit(reduced_motion=motion)
    page.goto(site)
    ask_for_a_call(page)
    expect(page.locator(".vp-body")).to_have_css("animation-name", animation)


def test_without_javascript(visit, site):
    page = visit(java_script_enabled=False)
    page.goto(site)
    ask_for_a_call(page)
    type_code(page, digits_on(page))
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url(re.compile("/phone/signup/"))


def test_the_page_of_the_api(visit, site):
    page = visit()
    page.goto(f"{site}api/docs/")
    bodies, answers = page.get_by_label("Body"), page.locator("output")
    send = page.get_by_role("button", name="Send")
    number = next(NUMBERS)
    bodies.nth(0).fill(json.dumps({"phone": number}))
    send.nth(0).click()
    expect(answers.nth(0)).to_contain_text("201 Created")
    page.locator(".vp-call", has_text=number).wait_for()
    bodies.nth(1).fill(json.dumps({"code": digits_on(page)}))
    send.nth(1).click()
    expect(answers.nth(1)).to_contain_text('"status": "verified"')
    send.nth(2).click()
    expect(answers.nth(2)).to_contain_text('"username": "ann"')


def test_swagger(visit, site):
    page = visit()
    page.goto(f"{site}api/docs/")
    page.get_by_role("link", name="Swagger").click()
    page.get_by_text("/api/verifications/{id}/check/").wait_for()


def test_russian(visit, site):
    page = visit(locale="ru")
    page.goto(site)
    expect(page.get_by_role("heading", level=1)).to_have_text("Звонок и есть код")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The call is the code")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, PHONE_WIDTH])
def test_every_page_is_accessible_and_still(visit, site, scheme, viewport):
    page = visit(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    page.goto(site)
    inspect(page)
    ask_for_a_call(page)
    if viewport == PHONE_WIDTH:
        page.locator(".vp-strip").click()
    inspect(page)
    page.get_by_role("button", name="Decline").click()
    page.locator(".vp-missed:visible").first.wait_for()
    inspect(page)
    sign_up(page, site, f"axe-{scheme}-{viewport['width']}")
    inspect(page)
    page.get_by_role("link", name="Change the number").click()
    page.wait_for_url("**/phone/**")  # not while the page is changing
    inspect(page)
    verify(page)
    page.wait_for_url("**/profile/")
    inspect(page)
    for path in ("phone/number/", "phone/number/remove/"):
        page.goto(site + path)
        inspect(page)
    page.goto(f"{site}profile/")
    page.get_by_role("button", name="Log out").click()
    for path in ("login/", "phone/login/", "api/docs/"):
        page.goto(site + path)
        inspect(page)


def inspect(page: Page) -> None:
    """Find what axe complains of, and whether anything jumped while the page came."""
    found = Axe().run(page, options=RULES).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
    assert sum(page.evaluate("window.shifts")) < 0.01
