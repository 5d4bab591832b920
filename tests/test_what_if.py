"""What if: the site's own calls under other settings."""

import re
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from django_flashcall import services
from django_flashcall.management.commands.flashcall_what_if import Command
from django_flashcall.models import Call, GuardDecision, Phone, Refusal, Verification

pytestmark = pytest.mark.django_db


def what_if(*settings, days=30):
    said = StringIO()
    call_command("flashcall_what_if", *settings, days=days, stdout=said)
    return said.getvalue()


@pytest.fixture
def pumped(outbox, configure):
    """A site without the guard: sixty pumped calls to one range, and six honest people."""
    configure(FRAUD_GUARD="off")
    with time_machine.travel("2026-03-02 12:00:00+00:00", tick=False) as clock:
        for n in range(60):
            clock.shift(timedelta(minutes=20))
            services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
            if n % 10 == 9:
                clock.shift(10)
                verification = services.start(f"+7916124{n:04d}", ip=f"203.0.113.{n}")
                services.redeem(services.check(verification, outbox[-1].code))
        yield clock


def test_from_the_command_line(pumped, capsys, monkeypatch):
    """`call_command` leaves out the options that all commands have."""
    monkeypatch.setattr(connections, "close_all", lambda: None)
    tried = ["FRAUD_GUARD=deny", "CALLS_TOTAL=50/day"]
    Command().run_from_argv(["manage.py", "flashcall_what_if", "--skip-checks", *tried])
    assert capsys.readouterr().out == what_if(*tried)


@pytest.mark.parametrize(
    ("arguments", "days", "words"),
    [([], 999_999, "--days"), ([], -5, "--days"), (["CALLS_TOTAL=x"], 30, "CALLS_TOTAL: it must")],
)
def test_what_makes_no_sense(arguments, days, words):
    with pytest.raises(CommandError, match=words):
        what_if(*arguments, days=days)


def test_with_the_guard(pumped):
    said = what_if("FRAUD_GUARD=deny")
    assert "66 calls in 30 days, 6 completed." in said
    saved = int(said.partition("Saved: ")[2].split()[0])
    assert saved > 45
    assert "Refused: 0 calls that people completed (0.00 %)." in said
    assert f"FRAUD_GUARD: {saved}" in said


class TestLikeTheRealSite:
    """What passes now passes in the replay, under the same settings."""

    @pytest.fixture(autouse=True)
    def site(self, outbox, configure, time_machine):
        configure(FRAUD_GUARD="off", COOLDOWN=0)
        time_machine.move_to("2026-03-02 12:00:00+00:00", tick=False)

    def test_without_an_address(self):
        for n in range(30):
            services.start(f"+7916{n:03}4567")
        assert "Saved: 0" in what_if()

    def test_verified_and_not_completed(self, outbox):
        Verification.objects.create(
            phone=Phone.objects.create(number="+79160000000"),
            purpose="signup",
            channel="flash_call",
            state="redeemed",
            code_length=4,
            max_attempts=3,
            attempts_left=3,
            calls_left=2,
            expires_at=timezone.now(),
        )  # so tokens of this purpose are redeemed here
        for n in range(30):
            verification = services.start(f"+7916{n:03}4567", ip="203.0.113.1")
            services.check(verification, outbox[-1].code)
        assert "Saved: 0" in what_if()

    @pytest.mark.parametrize(
        ("change", "number", "refused"),
        [("CALLS_TOTAL=40/day", "+7916{:03}4567", 2), ("CALLS_PER_PHONE=8/day", "+79161234567", 4)],
    )
    def test_what_is_kept_for_others(self, configure, change, number, refused):
        configure(CALLS_TOTAL=None, CALLS_PER_PHONE="100/day", CALLS_PER_IP=None)
        count = 40 if "TOTAL" in change else 8
        for n in range(count):
            services.start(number.format(n), ip="203.0.113.1")
        assert f"Saved: {refused} calls" in what_if(change)

    def test_the_wider_network(self, configure):
        configure(CALLS_PER_IP=None)
        for n in range(20):
            services.start(f"+7916{n:03}4567", ip=f"2001:db8:1:{n}::1")
        said = what_if("CALLS_PER_IP=2/hour")  # and ten for a /48
        assert "Saved: 10 calls" in said
        assert "CALLS_PER_IP: 10" in said

    def test_owners_spend_the_budget(self, configure):
        for n in range(30):
            services.start(f"+7916{n:03}4567", ip="203.0.113.1" if n < 20 else "203.0.113.2")
        Call.objects.filter(network="203.0.113.1").update(is_known=True)
        said = what_if("CALLS_TOTAL=20/day")
        assert "10 calls in 30 days" in said
        assert "Saved: 10" in said

    def test_the_first_call_again(self, configure):
        configure(CALLS_PER_PREFIX=None)
        for n in range(12):
            verification = services.start(f"+7916123{n:04}", ip=f"203.0.113.{n}")
        alone = what_if("FRAUD_GUARD=deny").partition("Saved: ")[2].split()[0]
        services.resend(verification, ip="203.0.113.11")
        assert f"Saved: {alone} calls" in what_if("FRAUD_GUARD=deny")


def test_with_the_settings_of_the_site(pumped):
    assert "Saved: 0 calls" in what_if()


def test_honest_people_who_would_be_refused(pumped):
    said = what_if("CALLS_TOTAL=3/day")
    assert "Refused: 6 calls that people completed (100.00 %)." in said
    assert "CALLS_TOTAL: " in said


def test_honest_people_who_would_have_to_come_back(pumped, outbox):
    for n in range(2):
        pumped.shift(timedelta(minutes=1))
        verification = services.start(f"+791612350{n}0", ip=f"203.0.113.{200 + n}")
        services.redeem(services.check(verification, outbox[-1].code))
    said = what_if("FRAUD_GUARD=deny")
    assert "Delayed: 0" not in said
    assert "Refused: 0" in said


def test_only_the_last_days(pumped):
    pumped.shift(timedelta(days=5))
    assert "0 calls in 3 days, 0 completed." in what_if(days=3)


def test_it_changes_nothing(pumped):
    before = Call.objects.count()
    what_if("FRAUD_GUARD=deny", "CALLS_TOTAL=5/day")
    assert Call.objects.count() == before
    assert not GuardDecision.objects.exists()
    assert not Refusal.objects.exists()


@pytest.mark.parametrize("text", ["CALLS_TOTAL=many", "COOLDOWN=5", "FRAUD_GUARD=", "x"])
def test_what_cannot_be_tried(pumped, text):
    with pytest.raises(CommandError):
        what_if(text)


def test_none_switches_a_limit_off(pumped):
    assert "Saved: 0" in what_if("CALLS_TOTAL=None", "CALLS_PER_IP=None")


# The page of the admin.

PAGE = "/admin/django_flashcall/guarddecision/what-if/"
OWN = {
    "FRAUD_GUARD": "off",
    "CALLS_TOTAL": "1000/day",
    "CALLS_PER_PHONE": "8/day",
    "CALLS_PER_IP": "20/hour",
    "CALLS_PER_PREFIX": "60/hour",
}


def rows(response):
    text = response.content.decode()
    cells = re.findall(r'<tr><th scope="row">(.+?)</th><td>(.+?)</td><td>(.+?)</td></tr>', text)
    return {name: (own, tried) for name, own, tried in cells}


def test_the_page_shows_the_settings_of_the_site(pumped, admin_client):
    page = admin_client.get(PAGE).content.decode()
    assert 'value="off" selected' in page
    assert all(f'value="{value}"' in page for name, value in OWN.items() if "CALLS" in name)
    assert "flashcall-tried" not in page
    changelist = admin_client.get("/admin/django_flashcall/guarddecision/").content.decode()
    assert f'href="{PAGE}"' in changelist


def test_the_page_says_what_the_command_says(pumped, admin_client):
    response = admin_client.get(PAGE, {**OWN, "FRAUD_GUARD": "deny", "CALLS_PER_IP": ""})
    saved = what_if("FRAUD_GUARD=deny", "CALLS_PER_IP=None").partition("Saved: ")[2].split()[0]
    assert "66 calls since" in response.content.decode()
    found = rows(response)
    assert found["Calls saved: nobody completed them"] == ("0", saved)
    assert found["Calls refused that people completed"] == ("0 (0.00 %)", "0 (0.00 %)")
    assert found["Refused by FRAUD_GUARD"] == ("0", saved)
    assert not GuardDecision.objects.exists()


def test_the_page_shows_whom_a_limit_would_refuse(pumped, admin_client):
    found = rows(admin_client.get(PAGE, {**OWN, "CALLS_TOTAL": "3/day"}))
    assert found["Calls refused that people completed"] == ("0 (0.00 %)", "6 (100.00 %)")


@pytest.mark.parametrize("wrong", [{"CALLS_TOTAL": "many"}, {"CALLS_PER_PHONE": ""}])
def test_the_page_explains_what_it_cannot_try(pumped, admin_client, wrong):
    page = admin_client.get(PAGE, {**OWN, **wrong}).content.decode()
    assert "Enter a rate such as &quot;20/hour&quot;." in page
    assert "flashcall-tried" not in page
    page = admin_client.get(PAGE, {**OWN, "FRAUD_GUARD": "maybe"}).content.decode()
    assert "Please correct the error below." in page


def test_the_page_replays_the_newest_calls_only(pumped, admin_client, monkeypatch):
    monkeypatch.setattr("django_flashcall.admin.what_if.MOST_CALLS", 9)
    assert "10 calls since" in admin_client.get(PAGE, OWN).content.decode()


def test_the_page_needs_the_permission_to_block(pumped, client, django_user_model):
    user = django_user_model.objects.create_user("ann", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_guarddecision"))
    client.force_login(user)
    assert client.get(PAGE).status_code == 403
    assert PAGE not in client.get("/admin/django_flashcall/guarddecision/").content.decode()
    user.user_permissions.add(Permission.objects.get(codename="block_phone"))
    assert client.get(PAGE).status_code == 200
