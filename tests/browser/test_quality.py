"""Every page in every state: accessible, small, and still."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone

from django_flashcall.models import Call, Verification
from tests.test_provider import number

from .steps import NUMBER, code_field, fill_signup, later, press, start, word, wrong

pytestmark = pytest.mark.django_db(transaction=True)

RULES = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
}
MOST_REQUESTS = 4
MOST_BYTES = 60 * 1024


def states(page, site, provider):
    """Go through the pages; say the name of each state that is reached."""
    page.goto(site)
    yield "start"
    page.locator("[name=phone]").fill("12")
    press(page, "Call me")
    page.locator(".errorlist").wait_for()
    yield "start, not a number"
    page.locator("[name=phone]").fill(number(9902))
    press(page, "Call me")
    page.get_by_role("alert").wait_for()
    yield "start, no calls now"
    start(page, site)
    yield "check"
    code_field(page).fill(wrong(provider.last_call(NUMBER).code))
    page.locator(".errorlist").wait_for()
    yield "check, a wrong code"
    later(61)
    Call.objects.update(status="undelivered", error_code="busy")
    page.reload()
    yield "check, not delivered"
    press(page, "Get the code by voice call")
    page.get_by_text(word(page, "Enter the code you hear")).first.wait_for()
    yield "check, by voice"
    # As without JavaScript, or from a window that knows of no wait.
    again = page.get_by_role("button", name=word(page, "Call again"))
    again.evaluate("button => { button.disabled = false; button.click(); }")
    page.get_by_role("alert").wait_for()
    yield "check, too soon"
    code_field(page).fill(provider.last_call(NUMBER).code)
    page.locator("[name=username]").wait_for()
    yield "signup"
    fill_signup(page)
    page.locator("[name=password]").fill("123")
    press(page, "Create account")
    page.locator(".errorlist").wait_for()
    yield "signup, a bad password"
    fill_signup(page)
    press(page, "Create account")
    page.get_by_text(word(page, "Your number is verified")).first.wait_for()
    yield "done"
    for path in ("number/", "number/change/", "number/remove/", "taken/"):
        page.goto(site + path)
        yield f"{path}, logged in"
    page.context.clear_cookies()
    page.goto(f"{site}taken/")
    yield "taken"
    start(page, site, number(4321), "login/")
    yield "check, six digits"
    code_field(page).fill(provider.last_call(number(4321)).code)
    page.get_by_role("alert").wait_for()
    yield "login, no account"
    page.context.clear_cookies()
    start(page, site, number(9925))
    yield "check, unknown outcome"
    check = page.url
    page.goto(site)
    yield "start, a call was placed"
    Verification.objects.update(expires_at=timezone.now())
    page.goto(check)
    yield "check, expired"
    Verification.objects.update(state="redeemed")
    page.goto(check)
    yield "check, verified already"
    page.context.clear_cookies()
    page.goto(check)
    yield "not found"


@pytest.mark.parametrize(
    ("scheme", "width", "locale"), [("light", 1280, "en-US"), ("dark", 360, "ru-RU")]
)
def test_every_page(visit, site, provider, scheme, width, locale):
    page = visit(color_scheme=scheme, locale=locale, viewport={"width": width, "height": 740})
    axe = Axe()
    names = []
    for name in states(page, site, provider):
        names.append(name)
        found = axe.run(page, options=RULES)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        page.evaluate("document.fonts.ready")
        assert sum(page.evaluate("window.shifts")) == 0, name
    assert len(names) == 23
    # That page has the status that it should have, of which the console tells.
    assert [said for said in visit.complaints if "404" not in said] == []
    visit.complaints.clear()


def test_the_policy_is_in_force(visit, site):
    page = visit()
    page.goto(site)
    with page.expect_console_message() as said:
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=color:red>')")
    assert "Content Security Policy" in said.value.text
    visit.complaints.clear()


def test_the_size_of_every_page(visit, site, provider):
    page = visit()
    page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    finished = []
    page.on("requestfinished", lambda request: finished.append(request))
    for name in states(page, site, provider):
        finished.clear()
        page.reload(wait_until="networkidle")
        # Each once: what the page before still had on its way may be told of here.
        loaded = {one.url: one for one in finished if one.resource_type != "fetch"}
        assert 3 <= len(loaded) <= MOST_REQUESTS, (name, list(loaded))
        sizes = [request.sizes() for request in loaded.values()]
        size = sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes)
        assert 1000 < size <= MOST_BYTES, (name, size)
    visit.complaints.clear()


def test_colours_are_those_of_the_scheme(visit, site):
    seen = set()
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        page.goto(site)
        seen.add(page.locator(".flashcall").evaluate("e => getComputedStyle(e).backgroundColor"))
    assert len(seen) == 2
