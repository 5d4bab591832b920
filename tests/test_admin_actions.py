"""What operators do in the admin: block, forget, rules, a test call; and what needs attention."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.admin import actions
from django_flashcall.exceptions import PhoneNotAllowed
from django_flashcall.models import Attempt, Call, Phone, Rule, Verification
from django_flashcall.protection import blocking

from .operators import VIEW, listed, operator, url

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
INDEX = "/admin/django_flashcall/"


@pytest.fixture
def phone(outbox, configure):
    configure(COOLDOWN=0)
    return services.start(NUMBER, ip="203.0.113.7").phone


def act(client, action, *phones, **data):
    data = {"action": action, "_selected_action": [phone.pk for phone in phones], **data}
    return client.post(url("phone"), data, follow=True)


@pytest.mark.parametrize("action", list(actions.PHONE_ACTIONS))
def test_an_action_asks_before_it_does(phone, action):
    Phone.objects.update(failures=12)
    blocking.block(phone) if action == "unblock" else None
    response = act(operator(*VIEW, "block_phone", "forget_phone"), action, phone)
    text = response.content.decode()
    assert str(actions.PHONE_ACTIONS[action].question) in text
    assert "+7******4567" in text
    assert NUMBER not in text
    assert Phone.objects.get().failures == 12
    assert Rule.objects.count() == (action == "unblock")
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", list(actions.PHONE_ACTIONS))
@pytest.mark.parametrize("permissions", [(), ("view_number", "export_call", "change_phone")])
def test_an_action_without_its_permission_does_nothing(phone, action, permissions):
    Phone.objects.update(failures=12)
    if action == "unblock":
        blocking.block(phone)
    client = operator(*VIEW, *permissions)
    act(client, action, phone, confirmed="yes")
    assert Phone.objects.get().failures == 12
    assert Rule.objects.count() == (action == "unblock")
    assert not LogEntry.objects.exists()
    page = client.get(url("phone", phone.pk)).content.decode()
    assert "flashcall-tool" not in page


@pytest.mark.parametrize(
    ("permission", "action"), [("block_phone", "forget"), ("forget_phone", "block")]
)
def test_one_permission_is_not_the_other(phone, permission, action):
    act(operator(*VIEW, permission), action, phone, confirmed="yes")
    assert Phone.objects.exists()
    assert not Rule.objects.exists()


def test_blocked_and_unblocked(phone):
    client = operator(*VIEW, "block_phone")
    act(client, "block", phone, confirmed="yes", note="asked us to stop")
    rule = Rule.objects.get()
    assert (rule.prefix, rule.action, rule.note) == (NUMBER, "deny", "asked us to stop")
    assert rule.created_by.get_username() == "operator"
    with pytest.raises(PhoneNotAllowed):
        services.start(NUMBER)
    assert listed(client, "phone", state="blocked") == [phone]
    page = act(client, "block", phone, confirmed="yes", note="again")
    assert "Blocked: 0 phones." in page.content.decode()
    assert Rule.objects.get().note == "asked us to stop"
    act(client, "unblock", phone, confirmed="yes")
    assert not Rule.objects.exists()
    assert services.start(NUMBER)
    entries = LogEntry.objects.order_by("pk")
    assert [entry.change_message for entry in entries] == ["Blocked: asked us to stop", "Unblocked"]
    for entry in entries:
        assert entry.object_repr == "+7******4567"
        assert entry.get_edited_object() == phone


def test_a_rule_for_a_range_shows_no_masked_number_as_blocked(phone):
    """Else whoever may add rules would find it digit by digit."""
    Rule.objects.create(action="deny", prefix="+7916123456")
    client = operator(*VIEW, "block_phone")
    assert listed(client, "phone", state="blocked") == []
    assert "Unblock" not in client.get(url("phone", phone.pk)).content.decode()


def test_let_try_again(phone):
    Phone.objects.update(failures=12, waits_until=timezone.now() + timedelta(hours=5))
    client = operator(*VIEW, "block_phone")
    assert listed(client, "phone", state="waiting") == [phone]
    response = act(client, "let_try_again", phone, confirmed="yes")
    assert response.redirect_chain[-1][0] == url("phone", phone.pk)
    phone.refresh_from_db()
    assert (phone.failures, phone.waits_until) == (0, None)
    assert LogEntry.objects.get().change_message == "Unlocked"


def test_forgotten(phone):
    Rule.objects.create(action="deny", prefix=NUMBER)
    Attempt.objects.create(verification=Verification.objects.get(), ip="203.0.113.7")
    act(operator(*VIEW, "forget_phone"), "forget", phone, confirmed="yes")
    for model in (Phone, Verification, Call, Attempt, Rule):
        assert not model.objects.exists()
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (DELETION, "+7******4567")
    assert entry.change_message == "Data erased"


def test_no_more_at_once_than_can_be_read(phone, monkeypatch):
    monkeypatch.setattr(actions, "MAX_PHONES", 2)
    others = [Phone.objects.create(number=f"+7916000000{n}") for n in range(2)]
    client = operator(*VIEW, "forget_phone")
    response = act(client, "forget", phone, *others, confirmed="yes")
    assert "Select at most 2 phones." in response.content.decode()
    assert Phone.objects.count() == 3
    act(client, "forget", *others, confirmed="yes")
    assert Phone.objects.get() == phone


def test_the_buttons_on_a_phones_page_lead_to_the_question(phone):
    client = operator(*VIEW, "block_phone", "forget_phone")
    page = client.get(url("phone", phone.pk)).content.decode()
    assert "Block</button>" in page
    assert "Unlock</button>" not in page  # nothing to forgive
    response = act(client, "block", phone, index="0")
    assert "Reason, for your colleagues" in response.content.decode()


def add_rule(client, **data):
    data = {"action": "deny", "prefix": "", "country": "", "channel": "", "note": "", **data}
    return client.post(f"{INDEX}rule/add/", data)


@pytest.mark.parametrize(
    ("typed", "prefix"),
    [
        ("+7916", "+7916"),
        ("+7 (916)", "+7916"),
        ("8 916", "+7916"),
        ("7916", "+7916"),
        ("007 916", "+7916"),
        ("8 (916) 123-45-67", NUMBER),
        ("9161234567", NUMBER),
        ("+44", "+44"),
        ("٠٠٤٤", "+44"),
    ],
)
def test_a_rules_prefix_is_typed_in_any_way(typed, prefix):
    response = add_rule(operator(*VIEW, "add_rule", "view_number"), prefix=typed)
    assert response.status_code == 302, response.context["errors"]
    rule = Rule.objects.get()
    assert rule.prefix == prefix
    assert rule.created_by.get_username() == "operator"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"prefix": "916"}, "Start with a plus"),
        ({"prefix": "+"}, "Start with a plus"),
        ({"prefix": "+999"}, "Start with a plus"),
        ({"prefix": "+0"}, "Start with a plus"),
        ({"prefix": "+7916abc"}, "Start with a plus"),
        ({"prefix": "+7" + "9" * 20}, "Start with a plus"),
        ({"prefix": "+7916;ext=1"}, "Start with a plus"),
        ({"country": "XX"}, "Unknown country"),
        ({"country": "R"}, "Unknown country"),
        ({"country": "Germany"}, "Unknown country"),
        ({"country": "ß"}, "Unknown country"),  # SS in capitals, which is South Sudan
        ({}, "Enter one of these"),
        ({"prefix": "+7916", "country": "RU"}, "Enter one of these"),
        ({"channel": "voice_code", "action": "allow"}, "Enter one of these"),
        ({"country": "KZ"}, "already exists"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(data, words):
    Rule.objects.create(action="deny", country="KZ")
    response = add_rule(operator(*VIEW, "add_rule"), **data)
    assert response.status_code == 200
    assert words in response.content.decode()
    assert Rule.objects.count() == 1


def test_a_browser_does_not_shorten_the_name_of_a_country():
    """GE is Georgia."""
    page = operator(*VIEW, "add_rule").get(f"{INDEX}rule/add/").content.decode()
    assert "maxlength" not in re.search(r'<input[^>]*name="country"[^>]*>', page)[0]


def test_a_country_is_typed_in_any_case():
    assert add_rule(operator(*VIEW, "add_rule"), country="kz").status_code == 302
    assert Rule.objects.get().country == "KZ"


def test_a_whole_number_in_a_rule_is_shown_and_changed_by_those_who_see_numbers():
    rule = Rule.objects.create(action="deny", prefix=NUMBER)
    client = operator(*VIEW, "change_rule")
    page = client.get(url("rule", rule.pk)).content.decode()
    assert "+7*" in page
    assert 'name="prefix"' not in page
    data = {"action": "allow", "prefix": "+7900", "country": "RU", "note": "colleague"}
    assert client.post(url("rule", rule.pk), data).status_code == 302
    rule.refresh_from_db()
    assert (rule.action, rule.prefix, rule.country) == ("deny", NUMBER, "")
    assert rule.note == "colleague"
    seeing = operator(*VIEW, "change_rule", "view_number", name="seeing")
    assert NUMBER in seeing.get(url("rule", rule.pk)).content.decode()
    assert all("9161234" not in entry.object_repr for entry in LogEntry.objects.all())


def test_a_stopped_channel_is_seen(configure):
    Rule.objects.create(action="deny", channel="flash_call")
    client = operator(*VIEW)
    assert "Channel stopped: flash call" in client.get(url("rule")).content.decode()
    notice = "The channel “flash call” is stopped by a rule, so no calls are placed."
    assert notice in client.get(INDEX).content.decode()


def call(client, phone="8 916 123-45-67", **data):
    return client.post(url("call_test"), {"phone": phone, "channel": "flash_call", **data})


@pytest.fixture
def caller():
    return operator(*VIEW, "place_test_call")


def test_a_test_call(caller, provider):
    response = call(caller)
    verification = Verification.objects.get()
    assert response.url == url("verification", verification.pk)
    assert verification.user.get_username() == "operator"
    assert verification.ip == "127.0.0.1"
    assert len(provider.requests) == 1
    code = provider.last_call(NUMBER).code
    page = caller.get(response.url).content.decode()
    assert "The provider responded in" in page
    assert f">{code}<" not in page
    entry = LogEntry.objects.get()
    assert entry.change_message == "Placed a test call to +7******4567"
    assert entry.object_repr == str(verification.pk)


def test_a_test_call_that_the_provider_refuses_leads_to_what_it_said(caller, provider):
    response = call(caller, "+79161239906")
    page = caller.get(response.url).content.decode()
    assert "Invalid password" in page
    assert "Calls will keep failing until you fix this" in page


@pytest.mark.parametrize(
    ("phone", "changes", "said"),
    [
        ("+79161239921", {}, "The outcome is unknown: the phone may be ringing."),
        ("+79161239924", {}, "The outcome is unknown: the phone may be ringing."),
        ("+79161234567", {"DISPATCH": "task"}, "The call was handed to a worker"),
        ("+79161234567", {"TEST_NUMBERS": {"+79161234567": "1234"}}, "no call was placed"),
    ],
)
def test_what_became_of_a_test_call(caller, provider, configure, phone, changes, said):
    configure(**changes)
    response = call(caller, phone)
    assert said in caller.get(response.url).text


def test_a_test_call_that_is_not_placed_says_why(caller, provider):
    for typed, words in (
        ("nonsense", "Enter a phone number"),
        ("", "required"),
        ("+14155550123", "t call this number"),
        ("+14155550123", "ALLOWED_COUNTRIES"),
    ):
        response = call(caller, typed)
        assert response.status_code == 200
        assert words in response.content.decode()
    assert call(caller, channel="pigeon").status_code == 200
    assert not provider.requests
    assert not LogEntry.objects.exists()


def test_a_test_call_obeys_the_limits(caller, outbox):
    assert call(caller).status_code == 302
    response = call(caller)
    assert "just called this number" in response.content.decode()
    assert len(outbox) == 1


@pytest.mark.parametrize("permissions", [VIEW, ("place_test_call",), ()])
def test_a_test_call_without_permission(permissions, outbox):
    assert call(operator(*permissions)).status_code == 403
    assert not outbox


def test_a_test_call_by_a_foreign_page(caller, outbox):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.cookies = caller.cookies
    assert call(strict).status_code == 403
    assert not outbox


@pytest.mark.django_db(transaction=True)
def test_a_test_call_runs_in_no_transaction(outbox, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert call(operator(*VIEW, "place_test_call")).status_code == 302
    assert len(outbox) == 1


def test_what_must_be_mended_stands_on_the_index_until_a_call_succeeds(caller, provider, configure):
    configure(COOLDOWN=0)
    words = "No calls can be placed through “default” until this is fixed"
    assert "no calls yet" in caller.get(INDEX).content.decode()
    call(caller, "+79161239906")
    page = caller.get(INDEX).content.decode()
    assert words in page
    assert "Invalid password" in page
    assert "needs attention" in page
    call(caller, "+79161239901")  # the provider is down: the password is wrong all the same
    assert words in caller.get(INDEX).content.decode()
    call(caller)
    page = caller.get(INDEX).content.decode()
    assert words not in page
    assert "healthy" in page
    call(caller, "+79161239901")
    page = caller.get(INDEX).content.decode()
    assert words not in page
    assert "failing" in page
    call(caller, "+79161239908")  # a person's wrong number is no trouble of the backend
    call(caller, "+79161234568")
    assert "healthy" in caller.get(INDEX).content.decode()


def test_the_health_takes_few_queries_and_is_shown_to_those_who_see_calls(caller, provider):
    call(caller, "+79161239906")
    with CaptureQueriesContext(connection) as captured:
        assert caller.get(INDEX).status_code == 200
    assert sum("flashcall" in query["sql"].split("WHERE")[0] for query in captured) <= 3
    page = operator("view_rule", name="other").get(INDEX).content.decode()
    assert "Provider health" not in page
    assert "Invalid password" not in page


def test_a_paused_backend_is_resumed_by_hand(caller, provider, configure):
    configure(BREAKER_FAILURES=2)
    for number in ("+79161239901", "+79161249901"):
        call(caller, number)
    page = caller.get(INDEX).content.decode()
    assert "No calls go through “default” until" in page
    assert "Failures in a row: 2." in page
    assert "Resume calls now" in page
    path = url("call") + "resume/default/"
    assert operator(*VIEW, name="other").post(path).status_code == 403
    assert "Resume calls now" not in operator(*VIEW, name="third").get(INDEX).content.decode()
    assert caller.get(path).status_code == 405
    answer = caller.post(path, follow=True)
    assert "Calls go through “default” again." in answer.content.decode()
    assert LogEntry.objects.latest("pk").object_repr == "default"
    assert "No calls go through" not in caller.get(INDEX).content.decode()
    assert caller.post(path, follow=True).status_code == 200  # the second click
    for unknown in ("nobody", "%00"):
        assert caller.post(f"{url('call')}resume/{unknown}/").status_code == 404
    call(caller)
    assert Call.objects.latest("pk").status == "sent"


def test_a_providers_words_are_escaped(caller, outbox):
    services.start(NUMBER)
    words = "<script>alert(1)</script>"
    Call.objects.update(status="rejected", must_mend=True, provider_message=words)
    for page in (INDEX, url("verification", Verification.objects.get().pk)):
        text = caller.get(page).content.decode()
        assert words not in text
        assert "&lt;script&gt;alert(1)" in text


def test_a_rule_outlives_its_maker(phone):
    blocking.block(phone, by=get_user_model().objects.create_user(username="gone"))
    get_user_model().objects.get(username="gone").delete()
    assert Rule.objects.get().created_by is None
