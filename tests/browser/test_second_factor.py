"""The example project with django-otp and with django-two-factor-auth, in a real Chromium."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Page, expect

from ..demo import Demo, running_demo

MODULES = {"otp": "example.settings_otp", "two_factor": "example.settings_two_factor"}


@pytest.fixture(params=MODULES, scope="module")
def second_factor(request, tmp_path_factory, unused_tcp_port_factory):
    """The demo with the settings of one of the packages."""
    folder = tmp_path_factory.mktemp(request.param)
    module = MODULES[request.param]
    with running_demo(folder, unused_tcp_port_factory, DJANGO_SETTINGS_MODULE=module) as demo:
        yield demo


@pytest.fixture
def site(second_factor):
    """The demo in the place of the pages' own site."""
    return second_factor.site


def called_code(demo: Demo) -> str:
    """Return the end of the number that called last."""
    return str(requests.get(f"{demo.provider}calls").json()[0]["calling_number"][-6:])


def wrong(code: str) -> str:
    return "111111" if code != "111111" else "111112"


def enter_password(page: Page) -> None:
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")


@pytest.mark.parametrize("second_factor", ["otp"], indirect=True)
def test_django_otp(visit, site, second_factor):
    page = visit()
    page.goto(f"{site}admin/")
    enter_password(page)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{site}admin/flashcall_otp/calldevice/add/")
    for name, value in {"user": "1", "name": "Mobile", "number": "8 916 123-00-01"}.items():
        page.locator(f"#id_{name}").fill(value)
    page.locator("[name=_save]").click()
    expect(page.locator("#result_list")).to_contain_text("+7******0001")

    other = visit()
    other.goto(f"{site}otp-admin/")
    enter_password(other)
    other.get_by_role("button", name="Log in").click()
    error = other.locator(".errornote")
    for said in (
        "We're calling +7******0001. The code is the last 6 digits of the number that calls.",
        "We've just called this number. You can request another call in",
    ):
        other.locator("[name=otp_device]").select_option(label="Mobile")
        other.get_by_role("button", name="Get OTP Challenge").click()
        expect(error).to_contain_text(said)
    code = called_code(second_factor)
    other.locator("[name=otp_token]").fill(wrong(code))
    other.get_by_role("button", name="Log in").click()
    expect(error).to_contain_text("Invalid token")
    other.locator("[name=otp_token]").fill(code)
    other.get_by_role("button", name="Log in").click()
    other.wait_for_url(f"{site}otp-admin/")
    # The pages of the admin have no icon, and scripts of its own set styles.
    visit.complaints[:] = [said for said in visit.complaints if "style" not in said]


@pytest.mark.parametrize("second_factor", ["two_factor"], indirect=True)
def test_django_two_factor_auth(visit, site, second_factor):
    page = visit()
    following = page.get_by_role("button", name="Next")
    page.goto(f"{site}account/login/")
    enter_password(page)
    following.click()
    page.wait_for_url("**/account/two_factor/")
    page.goto(f"{site}account/two_factor/setup/")
    following.click()
    page.locator("[value=call]").check()
    following.click()
    page.locator("[name=call-number]").fill("+79161230002")
    following.click()
    expect(page.locator("main")).to_contain_text("the code is the last 6 digits of the number")
    page.locator("[name=validation-token]").fill(wrong(called_code(second_factor)))
    following.click()
    expect(page.locator("main .errorlist")).to_have_text("Entered token is not valid.")
    page.locator("[name=validation-token]").fill(called_code(second_factor))
    following.click()
    page.wait_for_url("**/setup/complete/")

    phone = visit(viewport={"width": 390, "height": 844})
    following = phone.get_by_role("button", name="Next")
    phone.goto(f"{site}account/login/")
    enter_password(phone)
    following.click()  # calls, or says that it has just called: that code is good, too
    phone.locator("[name=token-otp_token]").fill(called_code(second_factor))
    following.click()
    phone.wait_for_url("**/account/two_factor/")
