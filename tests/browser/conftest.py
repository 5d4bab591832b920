"""A real Chromium before a real server, with the simulator in the provider's place."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.shifts.push(entry.value);
  }
}).observe({type: "layout-shift", buffered: true});
"""


@pytest.fixture(scope="module")
def chromium():
    # Playwright keeps an event loop in this thread, where Django then suspects coroutines.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def site(live_server, provider):
    """The address of the pages."""
    return f"{live_server.url}/phone/"


@pytest.fixture
def visit(chromium, site):
    """Opens browser windows; what they complain of fails the test when it ends."""
    contexts = []

    def visit(**options):
        options.setdefault("locale", "en-US")
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = chromium.new_context(**options)
        context.set_default_timeout(15_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        # A violation of the policy is an error of the console, too.
        page.on("console", lambda said: said.type == "error" and visit.complaints.append(said.text))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        contexts.append(context)
        return page

    visit.complaints = []
    yield visit
    for context in contexts:
        context.close()
    assert visit.complaints == []
