"""The admin of refusals and of the guard's decisions."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from django_flashcall.models import GuardDecision, Refusal

pytestmark = pytest.mark.django_db

DECISIONS = reverse("admin:django_flashcall_guarddecision_changelist")


@pytest.fixture
def decision():
    return GuardDecision.objects.create(
        scope="prefix",
        value="+7916123",
        day=timezone.now().date(),
        denied=True,
        unverified=12,
        honest=1,
        allowed=9,
        count=40,
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


def test_a_decision_is_shown_with_its_figures(admin_client, decision):
    page = admin_client.get(DECISIONS).content.decode()
    for figure in ("+7916123", "range of numbers", "refused", "12 (9)", ">1<", ">40<"):
        assert figure in page


def test_overruled_and_restored(admin_client, admin_user, decision):
    page = act(admin_client, "overrule", decision).content.decode()
    decision.refresh_from_db()
    assert decision.overruled_by == admin_user
    assert "1 decision overruled." in page
    act(admin_client, "restore", decision)
    decision.refresh_from_db()
    assert decision.overruled_at is decision.overruled_by is None
    assert LogEntry.objects.count() == 2


def test_only_those_who_may(staff, decision):
    client = staff("view_guarddecision")
    assert "+7916123" in client.get(DECISIONS).content.decode()
    act(client, "overrule", decision)
    decision.refresh_from_db()
    assert decision.overruled_at is None


def test_those_who_may_block(staff, decision):
    client = staff("view_guarddecision", "block_phone")
    act(client, "overrule", decision)
    decision.refresh_from_db()
    assert decision.overruled_at


def test_search(admin_client, decision):
    assert "+7916123" in admin_client.get(DECISIONS, {"q": "+7916123"}).content.decode()
    assert (
        "0 fraud guard decisions" in admin_client.get(DECISIONS, {"q": "+79161"}).content.decode()
    )


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
