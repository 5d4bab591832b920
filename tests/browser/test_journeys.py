"""The whole signup in a real browser, as different people go through it."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from playwright.sync_api import expect

from django_flashcall.models import Call, Phone, Verification
from tests.test_provider import ANSWERS, number

from .steps import NUMBER, PASSWORD, code_field, fill_signup, later, press, start, wrong

pytestmark = pytest.mark.django_db(transaction=True)


def is_signed_up(page):
    expect(page.get_by_role("heading", name="Your number is verified")).to_be_visible()
    user = get_user_model().objects.get()
    assert (user.username, user.email) == ("ann", "ann@example.com")
    assert user.check_password(PASSWORD)
    assert Phone.objects.get().owner == user


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "360 px"])
@pytest.mark.parametrize("scripts", [True, False], ids=["JavaScript", "no JavaScript"])
def test_by_mouse(visit, site, provider, options, scripts):
    page = visit(java_script_enabled=scripts, **options)
    start(page, site, "8 (916) 123-45-67")
    expect(page.locator("h1")).to_have_text("Enter the last 4 digits of the caller's number")
    code = provider.last_call(NUMBER).code
    code_field(page).fill(" ".join(code))  # the last digit sends it
    if not scripts:
        page.get_by_role("button", name="Confirm").click()
    fill_signup(page)
    page.get_by_role("button", name="Create account").click()
    is_signed_up(page)


@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_wider_than_the_window(visit, site, width):
    page = visit(viewport={"width": width, "height": 740})
    start(page, site)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("locale", ["en-US", "ru-RU"])
def test_text_of_twice_the_size_fits_on_a_phone(visit, site, locale):
    """WCAG 2.2, 1.4.4."""
    page = visit(viewport={"width": 375, "height": 740}, locale=locale)
    for path in ("signup/", ""):
        page.goto(site + path)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert page.evaluate("document.documentElement.scrollWidth") == 375
    start(page, site)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_back_to_a_form_that_had_an_error(visit, site, provider):
    page = visit()
    page.goto(f"{site}signup/")
    page.get_by_label("Phone number").fill("12")
    press(page, "Call me")
    expect(page.get_by_label("Phone number")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Phone number").fill(NUMBER)
    press(page, "Call me")
    expect(code_field(page)).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Phone number")).to_be_visible()
    expect(page.get_by_text("We've just called +7******4567.")).to_be_visible()
    assert len(provider.calls) == 1


STOPPED = """
(number) => {
  const form = document.forms[0];
  const sent = [];
  document.addEventListener("submit", (event) => sent.push(!event.defaultPrevented));
  form.requestSubmit();
  const shown = getComputedStyle(form.querySelector("button"));
  const seen = [shown.opacity, shown.cursor];
  form.requestSubmit();
  window.stop();
  form.phone.value = number;
  form.phone.dispatchEvent(new InputEvent("input", { bubbles: true }));
  seen.push(shown.opacity);
  form.requestSubmit();
  return [...seen, ...sent];
}
"""
"""In a single step: Playwright waits for a response before the next one."""


def test_stopping_a_slow_call_to_correct_the_number(visit, site, provider):
    page = visit()
    page.goto(f"{site}signup/")
    page.get_by_label("Phone number").fill(number(1))
    assert page.evaluate(STOPPED, NUMBER) == ["0.6", "progress", "1", True, False, True]
    expect(code_field(page)).to_be_visible()
    assert [call.number for call in provider.calls] == [NUMBER]


def test_by_keyboard_alone(visit, site, provider):
    page = visit()
    keyboard = page.keyboard
    page.goto(f"{site}signup/")
    expect(page.locator("[name=phone]")).to_be_focused()
    keyboard.type("9161234567")
    keyboard.press("Enter")
    expect(code_field(page)).to_be_focused()
    keyboard.type(wrong(provider.last_call(NUMBER).code))
    expect(page.get_by_text("Wrong code. 2 attempts left.")).to_be_visible()
    expect(code_field(page)).to_be_focused()
    later(61)
    page.reload()
    expect(code_field(page)).to_be_focused()
    keyboard.press("Tab")
    expect(page.get_by_role("button", name="Confirm")).to_be_focused()
    keyboard.press("Tab")
    expect(page.get_by_role("button", name="Call again")).to_be_focused()
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Call again")).to_be_disabled()
    expect(code_field(page)).to_be_focused()
    keyboard.type(provider.last_call(NUMBER).code)
    expect(page.get_by_label("Username")).to_be_focused()
    keyboard.type("ann")
    keyboard.press("Tab")
    keyboard.type("ann@example.com")
    keyboard.press("Tab")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    is_signed_up(page)


def test_in_russian(visit, site, provider):
    page = visit(locale="ru-RU")
    start(page, site, "8 (916) 123-45-67")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    heading = "Введите последние 4 цифры номера, с которого мы позвоним"
    expect(page.locator("h1")).to_have_text(heading)
    code = provider.last_call(NUMBER).code
    code_field(page).fill(wrong(code))
    expect(page.get_by_text("Неверный код. Осталось 2 попытки.")).to_be_visible()
    code_field(page).fill(code)
    page.get_by_role("heading", name="Создайте учётную запись").wait_for()
    fill_signup(page)
    press(page, "Create account")
    page.wait_for_url("**/done/")
    expect(page.locator("h1")).to_have_text("Ваш номер подтверждён")
    assert Phone.objects.get().owner.username == "ann"


def test_a_wrong_code_and_a_reload(visit, site, provider):
    page = visit()
    start(page, site)
    code = code_field(page)
    code.fill(wrong(provider.last_call(NUMBER).code))
    expect(page.get_by_text("Wrong code. 2 attempts left.")).to_be_visible()
    expect(code).to_be_focused()
    expect(code).to_have_attribute("aria-invalid", "true")
    expect(code).to_have_accessible_description("Wrong code. 2 attempts left.")
    page.reload()
    expect(page.get_by_text("Wrong code")).to_have_count(0)
    assert Verification.objects.get().attempts_left == 2


def test_each_error_of_the_provider(visit, site, provider, configure):
    configure(CALLS_PER_IP=None)
    page = visit()
    page.goto(site)
    for code, (status, _, _) in ANSWERS.items():
        typed = number(9900 + code % 100)
        page.get_by_label("Phone number").fill(typed)
        page.get_by_role("button", name="Call me").click()
        if status == 400:
            expect(page.get_by_label("Phone number")).to_be_focused()
            expect(page.get_by_label("Phone number")).to_have_attribute("aria-invalid", "true")
        else:
            expect(page.get_by_role("alert")).to_be_focused()
        assert Call.objects.latest("pk").provider_code == code
        expect(page.get_by_label("Phone number")).to_have_value(typed)


def test_an_unknown_outcome(visit, site, provider):
    page = visit()
    page.clock.install()
    start(page, site, number(9925))
    said = page.locator("[data-flashcall-lead]")
    expect(said).to_have_text(re.compile("If it didn't, you can request another call in [0-9]+ s"))
    later(61)
    page.clock.run_for(61_000)
    expect(said).to_have_text(
        "If your phone rang, enter the digits. If it didn't, request another call."
    )
    code_field(page).fill(provider.last_call(number(9925)).code)
    expect(page.get_by_label("Username")).to_be_visible()


# What the script does.


def test_the_countdown_to_the_next_call(visit, site, provider):
    page = visit()
    page.clock.install()
    start(page, site)
    again = page.get_by_role("button", name="Call again")
    voice = page.get_by_role("button", name="Get the code by voice call")
    countdown = page.locator("p[data-flashcall-countdown]")
    expect(again).to_be_disabled()
    expect(voice).to_be_disabled()
    before = int(re.search(r"\d+", countdown.inner_text())[0])
    page.clock.run_for(5_000)
    expect(countdown).not_to_have_text(re.compile(rf"\b{before}\b"))
    expect(page.get_by_role("status")).to_be_empty()  # not each second is read out
    later(61)
    page.clock.run_for(61_000)
    expect(countdown).to_have_text("You can request another call now.")
    expect(page.get_by_role("status")).to_have_text("You can request another call now.")
    expect(again).to_be_enabled()
    voice.click()
    expect(page.locator("h1")).to_have_text("Enter the code you hear")
    assert Call.objects.latest("pk").channel == "voice_code"


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize(
    "error_code", ["busy", "absent_subscriber", "not_provisioned", "failure", "unknown"]
)
def test_a_call_that_is_not_delivered_is_said_early(visit, site, error_code, width):
    page = visit(viewport={"width": width, "height": 740})
    page.clock.install()
    start(page, site)
    lead = page.locator("[data-flashcall-lead]")
    before = lead.inner_text()
    Call.objects.update(status="undelivered", error_code=error_code)
    page.clock.run_for(3_000)
    expect(lead).not_to_have_text(before)
    expect(page.get_by_role("status")).to_have_text(lead.inner_text())
    assert sum(page.evaluate("window.shifts")) == 0


def test_an_unknown_call_that_is_not_delivered_keeps_its_countdown(visit, site):
    page = visit()
    page.clock.install()
    start(page, site, number(9925))
    countdown = page.locator("[data-flashcall-countdown]")
    expect(countdown).to_be_visible()
    Call.objects.update(status="undelivered", error_code="busy")
    page.clock.run_for(3_000)
    expect(page.locator("[data-flashcall-lead]")).to_contain_text("busy")
    expect(countdown).to_have_text(re.compile("in [0-9]+ sec"))
    expect(page.get_by_role("button", name="Call again")).to_be_disabled()


def test_a_session_that_ends_while_the_page_waits(visit, site):
    page = visit()
    page.clock.install()
    start(page, site)
    page.context.clear_cookies()
    page.clock.run_for(3_000)
    expect(page.get_by_role("heading", name="This page is no longer available")).to_be_visible()
    assert all("404" in said for said in visit.complaints)
    visit.complaints.clear()


def test_a_hidden_page_does_not_ask(visit, site):
    page = visit()
    page.clock.install()
    start(page, site)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})"
    )
    page.clock.run_for(60_000)
    assert asked == []
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => false})"
    )
    with page.expect_response("**/phone/**"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_verified_in_another_window(visit, site, provider):
    page = visit()
    page.clock.install()
    start(page, site)
    other = page.context.new_page()
    other.goto(page.url)
    code_field(other).fill(provider.last_call(NUMBER).code)
    expect(other.get_by_label("Username")).to_be_visible()
    page.clock.run_for(3_000)
    expect(page.get_by_label("Username")).to_be_visible()


def test_expired_while_looking_on(visit, site):
    page = visit()
    page.clock.install()
    start(page, site)
    Verification.objects.update(expires_at=timezone.now())
    page.clock.run_for(3_000)
    expect(page.get_by_text("The code has expired. Start again.")).to_be_visible()
    page.get_by_role("link", name="Start again").click()
    expect(page.get_by_label("Phone number")).to_be_visible()


def test_pressed_twice(visit, site, provider):
    page = visit()
    page.goto(site)
    page.get_by_label("Phone number").fill(NUMBER)
    page.get_by_role("button", name="Call me").evaluate("b => { b.click(); b.click(); }")
    page.locator("[name=code]").wait_for()
    assert len(provider.requests) == 1
    code_field(page).fill(wrong(provider.last_call(NUMBER).code)[:3])
    page.get_by_role("button", name="Confirm").evaluate("b => { b.click(); b.click(); }")
    expect(page.get_by_text("Enter the 4-digit code.")).to_be_visible()
    assert Verification.objects.get().attempts_left == 3


def test_the_back_button(visit, site, provider):
    page = visit()
    start(page, site)
    page.go_back()
    expect(page.get_by_text("We've just called +7******4567.")).to_be_visible()
    page.get_by_label("Phone number").fill(NUMBER)
    page.get_by_role("button", name="Call me").click()
    code_field(page).fill(provider.last_call(NUMBER).code)
    page.get_by_label("Username").wait_for()
    assert len(provider.requests) == 1


def test_another_number(visit, site, provider):
    page = visit()
    start(page, site)
    page.get_by_role("button", name="Change the number").click()
    page.get_by_label("Phone number").fill(number(1111))
    page.get_by_role("button", name="Call me").click()
    code_field(page).fill(provider.last_call(number(1111)).code)
    expect(page.get_by_label("Username")).to_be_visible()
    assert [v.status for v in Verification.objects.order_by("created_at")] == [
        "cancelled",
        "verified",
    ]


@pytest.fixture
def ann(settings):
    """An account with a number; those who log in come to the page of their number."""
    settings.LOGIN_URL = "django_flashcall:login"
    settings.LOGIN_REDIRECT_URL = "django_flashcall:number"
    user = get_user_model().objects.create_user("ann")
    Phone.objects.create(number=NUMBER, owner=user)
    return user


@pytest.mark.parametrize("options", [{}, PHONE], ids=["desktop", "360 px"])
def test_login_by_keyboard_and_back_again(visit, site, provider, ann, options):
    page = visit(**options)
    keyboard = page.keyboard
    page.goto(f"{site}number/change/")  # which needs a login first
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in by phone")
    expect(page.locator("[name=phone]")).to_be_focused()
    keyboard.type("9161234567")
    keyboard.press("Enter")
    expect(code_field(page)).to_be_focused()
    check = page.url
    keyboard.type(provider.last_call(NUMBER).code)
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your number")
    page.goto(check)  # as the back button does
    expect(page.get_by_text("This number is already verified.")).to_be_visible()
    page.get_by_role("link", name="Continue").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your number")
    page.goto(f"{site}login/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your phone number")


@pytest.mark.parametrize("scripts", [True, False], ids=["JavaScript", "no JavaScript"])
def test_login_change_and_removal_by_mouse(visit, site, provider, ann, scripts):
    page = visit(java_script_enabled=scripts)
    for path, called in (("login/", NUMBER), ("number/change/", number(1111))):
        start(page, site, called, path)
        code_field(page).fill(provider.last_call(called).code)
        if not scripts:
            press(page, "Confirm")
        expect(page.get_by_role("heading", level=1)).to_have_text("Your phone number")
        expect(page.get_by_text(f"+7******{called[-4:]}")).to_be_visible()
    assert Phone.objects.get(owner=ann).number == number(1111)
    page.get_by_role("link", name="Remove the number").click()
    press(page, "Remove the number")
    expect(page.get_by_text("You have no verified phone number.")).to_be_visible()
    assert not Phone.objects.filter(owner=ann).exists()


def test_a_newcomer_whose_number_has_an_account(visit, site, provider, ann):
    page = visit()
    start(page, site)
    code_field(page).fill(provider.last_call(NUMBER).code)
    expect(page.get_by_role("heading", level=1)).to_have_text("This number has an account already")
    page.get_by_role("link", name="Use another number").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your phone number")
    start(page, site, number(1111), "")
    code_field(page).fill(provider.last_call(number(1111)).code)
    page.get_by_role("link", name="Create account").click()
    fill_signup(page, "eve")
    press(page, "Create account")
    expect(page.get_by_role("heading", name="Your number is verified")).to_be_visible()
