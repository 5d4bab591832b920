"""The admin of refusals and of the guard's decisions."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from django_flashcall import services
from django_flashcall.models import Call, GuardDecision, Refusal

pytestmark = pytest.mark.django_db

DECISIONS = reverse("admin:django_flashcall_guarddecision_changelist")


@pytest.fixture
def decision():
    return GuardDecision.objects.create(
        scope="prefix",
        value="+7916123",
        denied=True,
        unverified=12.25,
        honest=1,
        allowed=9,
        count=40,
        passed=3,
    )


@pytest.fixture
def staff(django_user_model, client):
    def staff(*permissions):
        user = django_user_model.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return staff


def act(client, action, decision):
    data = {"action": action, "_selected_action": [decision.pk]}
    return client.post(DECISIONS, data, follow=True)


def test_what_is_narrowed_is_shown_with_its_figures(admin_client, decision):
    page = admin_client.get(DECISIONS).content.decode()
    for figure in ("+7916123", "range of numbers", "narrowed", "12.2 (9.0)", ">1.0<", ">40 / 3<"):
        assert figure in page


def test_what_passes(admin_client, outbox, configure, decision):
    configure(FRAUD_GUARD="off")
    for n in range(8):
        services.start(f"+7916123{n:04d}", ip=f"198.51.100.{n}")
    Call.objects.update(created_at=timezone.now() - timedelta(hours=1))
    decision.created_at = timezone.now() - timedelta(minutes=30)
    decision.save()
    url = reverse("admin:django_flashcall_guarddecision_change", args=[decision.pk])
    page = admin_client.get(url).content.decode()
    assert "At once: a call every 30 minutes. After asking twice: a call every 2 minutes." in page
    GuardDecision.objects.update(mode="closed")
    assert "Nothing, until you open it" in admin_client.get(url).content.decode()
    GuardDecision.objects.update(mode="open")
    assert "Everything." in admin_client.get(url).content.decode()


@pytest.mark.parametrize(
    ("action", "mode", "label"),
    [
        ("open", "open", "open"),
        ("close", "closed", "closed"),
        ("watch", "watch", "only watched"),
    ],
)
def test_a_person_decides(admin_client, admin_user, decision, action, mode, label):
    page = act(admin_client, action, decision).content.decode()
    decision.refresh_from_db()
    assert (decision.mode, decision.decided_by) == (mode, admin_user)
    assert "1 decision changed." in page
    assert f">{label}<" in admin_client.get(DECISIONS).content.decode()
    act(admin_client, "automatic", decision)
    decision.refresh_from_db()
    assert decision.mode == "auto"
    assert LogEntry.objects.count() == 2


def test_the_page_has_a_button_for_each(admin_client, decision):
    url = reverse("admin:django_flashcall_guarddecision_change", args=[decision.pk])
    page = admin_client.get(url).content.decode()
    for name in ("open", "close", "watch"):
        assert f'name="action" value="{name}"' in page
    assert 'value="automatic"' not in page
    GuardDecision.objects.update(scope="country", value="RU", mode="watch")
    page = admin_client.get(url).content.decode()
    assert 'value="automatic"' in page
    assert 'value="close"' not in page


def test_countries_are_never_closed(admin_client, decision):
    GuardDecision.objects.update(scope="country", value="RU")
    page = act(admin_client, "close", decision).content.decode()
    decision.refresh_from_db()
    assert decision.mode == "auto"
    assert "0 decisions changed." in page
    assert "Countries and operators cannot be closed." in page


def test_a_decision_is_called_what_it_shows(admin_client, decision):
    GuardDecision.objects.update(scope="operator", value="25001")
    url = reverse("admin:django_flashcall_guarddecision_change", args=[decision.pk])
    assert "<h1>operator MTS" in admin_client.get(url).content.decode()


def test_figures_and_hours_in_russian(admin_client, decision, settings):
    settings.TIME_ZONE = "Europe/Moscow"
    headers = {"Accept-Language": "ru"}
    page = admin_client.get(DECISIONS, headers=headers).content.decode()
    assert "12,2 (9,0)" in page
    assert "Выберите" not in page
    hour = datetime(2026, 3, 2, 22, tzinfo=UTC)
    row = Refusal.objects.create(scope="address", reason="too_many_calls", hour=hour)
    url = reverse("admin:django_flashcall_refusal_change", args=[row.pk])
    page = admin_client.get(url, headers=headers).content.decode()
    assert "<h2>адрес 03.03.2026 01:00</h2>" in page


def test_only_those_who_may(staff, decision):
    client = staff("view_guarddecision")
    assert "+79161…" in client.get(DECISIONS).content.decode()
    act(client, "open", decision)
    decision.refresh_from_db()
    assert decision.mode == "auto"


def test_a_range_is_shown_whole_to_those_who_see_numbers(staff, decision):
    """The masked numbers of the calls show the rest of it."""
    GuardDecision.objects.update(value="+7916555")
    row = Refusal.objects.create(
        scope="prefix", reason="too_many_calls", hour=timezone.now(), example="+7916555"
    )
    pages = [
        DECISIONS,
        reverse("admin:django_flashcall_guarddecision_change", args=[decision.pk]),
        reverse("admin:django_flashcall_refusal_changelist"),
        reverse("admin:django_flashcall_refusal_change", args=[row.pk]),
    ]
    views = "view_guarddecision", "view_refusal", "block_phone"
    client = staff(*views)
    act(client, "open", decision)
    for page in [*pages, reverse("admin:index")]:
        assert "+7916555" not in client.get(page).content.decode()
    user = get_user_model().objects.get()
    user.user_permissions.add(Permission.objects.get(codename="view_number"))
    for page in pages:
        assert "+7916555" in client.get(page).content.decode()


def test_those_who_may_block(staff, decision):
    client = staff("view_guarddecision", "block_phone")
    act(client, "open", decision)
    decision.refresh_from_db()
    assert decision.mode == "open"


def test_search(admin_client, decision):
    assert "+7916123" in admin_client.get(DECISIONS, {"q": "+7916123"}).content.decode()
    assert (
        "0 fraud guard decisions" in admin_client.get(DECISIONS, {"q": "+79161"}).content.decode()
    )


def test_a_masked_range_is_not_found_by_trying(staff, decision):
    country = GuardDecision.objects.create(
        scope="country", value="KZ", denied=False, unverified=9, honest=1, allowed=4
    )
    client = staff("view_guarddecision")
    found = [client.get(DECISIONS, {"q": q}).context["cl"].result_list for q in ("+7916123", "KZ")]
    assert list(found[0]) == []
    assert list(found[1]) == [country]


def test_history_is_not_changed(admin_client, decision):
    page = reverse("admin:django_flashcall_guarddecision_change", args=[decision.pk])
    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, {"unverified": 0}).status_code == 403


def test_refusals(admin_client):
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    row = Refusal.objects.create(
        scope="address", reason="too_many_calls", hour=now, count=77, example="203.0.113.9"
    )
    page = admin_client.get(reverse("admin:django_flashcall_refusal_changelist"))
    assert ">77<" in page.content.decode()
    assert "203.0.113.9" in page.content.decode()
    change = reverse("admin:django_flashcall_refusal_change", args=[row.pk])
    assert admin_client.get(change).status_code == 200
