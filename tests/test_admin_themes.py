"""The admin pages under other themes, each in a site of its own: the example project."""

import os
import subprocess
import sys

import pytest

from .documents import ROOT

VISIT = """
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_flashcall.models import GuardDecision, Phone

call_command("migrate", verbosity=0)
client = Client()
client.force_login(get_user_model().objects.create_superuser("admin"))
phone = Phone.objects.create(number="+79161234567")
decision = GuardDecision.objects.create(
    scope="prefix", value="+7916123", denied=True, last_at=timezone.now(),
    unverified=30, allowed=10, honest=2,
)

TOOLS = ['form="flashcall-actions"', 'id="flashcall-actions"']

def see(name, *args, has):
    page = client.get(reverse(f"admin:django_flashcall_{name}", args=args))
    text = page.content.decode()
    assert page.status_code == 200, name
    for part in ["THEME", "django_flashcall/admin.css", *has]:
        assert part in text, (name, part)
    # A form inside another one would be ignored by the browser.
    before = text.partition(' id="flashcall-actions"')[0]
    assert before.count("<form") - before.count("</form") in (0, 1), name

see("call_changelist", has=["flashcall-item", "statistics/", "test-call/", "export/"])
see("call_statistics", has=["flashcall-tiles", "statistics.js"])
see("call_test", has=["flashcall-page", 'name="phone"', 'type="submit"'])
see("verification_changelist", has=[])
see("phone_changelist", has=["+79161234567"])
see("phone_change", phone.pk, has=[*TOOLS, 'value="block"'])
see("guarddecision_changelist", has=["what-if/", "flashcall-badge"])
see("guarddecision_change", decision.pk, has=[*TOOLS, 'value="close"', "flashcall-badge"])
see("guarddecision_what_if", has=["flashcall-page", 'type="submit"'])
see("refusal_changelist", has=[])
page = client.post(
    reverse("admin:django_flashcall_phone_changelist"),
    {"action": "block", "index": 0, "_selected_action": phone.pk},
)
assert "flashcall-page" in page.content.decode() and "THEME" in page.content.decode()
page = client.get(reverse("admin:app_list", args=["django_flashcall"]))
assert "flashcall-health" in page.content.decode()
"""


@pytest.mark.parametrize("theme", ["unfold", "jazzmin"])
def test_the_pages_are_there(theme, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", VISIT.replace("THEME", f"static/{theme}/")],
        cwd=ROOT / "example_project",
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": f"example.settings_{theme}",
            "DEMO_DATABASE": str(tmp_path / "db.sqlite3"),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
