"""The admin's lists: what they show, how they are searched, and what they never tell."""

import csv
import io
import random
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.admin import base
from django_flashcall.models import (
    Call,
    DeliveryReport,
    GuardDecision,
    Phone,
    Rule,
    Verification,
)

from .operators import VIEW, listed, operator, url

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
HIDDEN = "9161234"
"""Digits of `NUMBER` that its mask does not show, with those beside them."""


@pytest.fixture
def verification(outbox):
    return services.start(NUMBER, ip="203.0.113.7")


@pytest.fixture
def many(configure, outbox):
    """Thirty calls to numbers of their own."""
    configure(CALLS_PER_IP=None, CALLS_PER_PREFIX=None)
    return [services.start(f"+7916555{number:04}") for number in range(30)]


def queries(client, address):
    """The data queries of a page: those beside session, user and permissions."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return [
        query["sql"]
        for query in captured.captured_queries
        if not any(
            f'"{table}' in query["sql"].split("WHERE")[0]
            for table in ("django_session", "auth_permission", "auth_user_user_permissions")
        )
        and '"auth_user"."password"' not in query["sql"].split("FROM")[0]
    ]


@pytest.mark.parametrize(
    "typed",
    [
        "+79161234567",
        "8 (916) 123-45-67",
        "8 916 123 45 67",
        "79161234567",
        "9161234567",
        "+7 916 123‑45‑67",
        "  +79161234567 ",
        "tel:+79161234567",
        "٨٩١٦١٢٣٤٥٦٧",
    ],
)
@pytest.mark.parametrize("permissions", [VIEW, (*VIEW, "view_number")])
def test_search_by_any_way_of_writing_a_number(verification, many, typed, permissions):
    client = operator(*permissions)
    assert listed(client, "call", q=typed) == [verification.newest_call]
    assert listed(client, "verification", q=typed) == [verification]
    assert listed(client, "phone", q=typed) == [verification.phone]


def test_search_by_identifiers(verification, many):
    client, call = operator(*VIEW), verification.newest_call
    for typed in (
        call.provider_id,
        str(call.reference),
        call.reference.hex,
        str(verification.pk),
        verification.pk.hex.upper(),
    ):
        assert listed(client, "call", q=typed) == [call], typed
    assert listed(client, "verification", q=str(verification.pk)) == [verification]


def test_a_providers_identifier_that_looks_like_a_number_finds_both(verification, many):
    other = many[3].newest_call
    Call.objects.filter(pk=other.pk).update(provider_id="9161234567")
    found = listed(operator(*VIEW), "call", q="9161234567")
    assert set(found) == {verification.newest_call, other}


def test_names_of_accounts_that_are_numbers_are_masked(verification):
    """Django's username can be the number; a site's own `__str__` can contain it."""
    people = get_user_model().objects
    names = NUMBER, "Ann (8 916 765-43-21)"
    owner, former = (people.create_user(username=name) for name in names)
    Phone.objects.update(owner=owner)
    Verification.objects.update(
        user=former,
        state="redeemed",
        redeemed_by=owner,
        redeemed_at=timezone.now(),
        former_owner=former,
    )
    pages = [
        url("phone"),
        url("phone", verification.phone.pk),
        url("verification", verification.pk),
        url("call", verification.newest_call.pk),
    ]
    client = operator(*VIEW)
    for page in pages:
        shown = client.get(page).text
        assert not any(name in shown for name in names), page
    masked = "Ann (***************)"
    for told in (f"by {masked}", "by +***********", f"moved from the account {masked}"):
        assert told in client.get(pages[2]).text
    seeing = operator(*VIEW, "view_number", name="seeing")
    assert all(name in seeing.get(pages[1]).text for name in names)
    for told in (f"by {former}", f"by {owner}", f"moved from the account {former}"):
        assert told in seeing.get(pages[2]).text


def test_names_of_staff_that_are_numbers_are_masked(verification):
    boss_number = "+79160001122"
    boss = get_user_model().objects.create_user(username=boss_number)
    Rule.objects.create(action="deny", prefix="+7900", created_by=boss)
    figures = {"denied": True, "unverified": 9, "honest": 0, "allowed": 5}
    GuardDecision.objects.create(
        scope="country",
        value="RU",
        mode="open",
        decided_by=boss,
        decided_at=timezone.now(),
        **figures,
    )
    view = (*VIEW, "view_guarddecision")
    pages = [
        *map(url, ("rule", "guarddecision")),
        url("rule", Rule.objects.get().pk),
        url("guarddecision", GuardDecision.objects.get().pk),
    ]
    client, seeing = operator(*view), operator(*view, "view_number", name="seeing")
    for page in pages:
        assert boss_number not in client.get(page).text, page
        assert boss_number in seeing.get(page).text, page


@pytest.mark.parametrize(
    "typed",
    [
        "+79161234567",
        "8 (916) 123-45-67",
        "8‑916‑123‑45‑67",
        "8 916 / 123 / 45 / 67",
        "8\u200b916\u200b1234567",
        "+7 916 123–45–67",
        "8_916_1234567",
        "8      916      1234567",
    ],
)
def test_a_number_in_any_format_is_masked_in_a_text(typed):
    assert not set(base.mask_numbers(f"queue of {typed} is full")) & set("0123456789")


def test_the_lock_of_the_owner_is_shown_and_can_be_lifted(verification):
    locked_until = timezone.now() + timedelta(hours=1)
    Phone.objects.update(known_failures=3, known_waits_until=locked_until)
    client = operator(*VIEW, "block_phone")
    assert listed(client, "phone", state="waiting") == [verification.phone]
    page = client.get(url("phone", verification.phone.pk))
    assert "locked" in page.text
    assert "let_try_again" in [name for name, _label in page.context["object_buttons"]]


def test_a_short_username_of_digits(verification):
    owner = get_user_model().objects.create_user(username="74951")
    Phone.objects.update(owner=owner)
    for seeing in operator(*VIEW), operator(*VIEW, "view_number", name="seeing"):
        assert listed(seeing, "phone", q="74951") == [verification.phone]


def test_search_where_usernames_are_numbers(verification, monkeypatch):
    monkeypatch.setattr(get_user_model(), "USERNAME_FIELD", "id")
    assert listed(operator(*VIEW), "phone", q="ann") == []


def test_search_by_the_owners_name(verification, many):
    ann = get_user_model().objects.create_user(username="ann")
    Phone.objects.filter(pk=verification.phone.pk).update(owner=ann)
    client = operator(*VIEW)
    assert listed(client, "phone", q="ann") == [verification.phone]
    assert listed(client, "phone", q="an") == []


@pytest.mark.parametrize("typed", ["+7916123", "8 916 123", "7916 123-45"])
def test_only_those_who_see_numbers_search_by_their_beginning(verification, many, typed):
    allowed = operator(*VIEW, "view_number", name="allowed")
    assert listed(allowed, "call", q=typed) == [verification.newest_call]
    assert listed(allowed, "verification", q=typed) == [verification]
    assert listed(allowed, "phone", q=typed) == [verification.phone]
    client = operator(*VIEW)
    for name in ("call", "verification", "phone"):
        assert listed(client, name, q=typed) == []


@pytest.mark.parametrize(
    "typed",
    [
        "\0",
        "%",
        "+",
        "++++",
        "'; --",
        "9" * 5000,
        "+7916%",
        "_" * 12,
        "٭",
        "-1",
        "0" * 32,
        "\ud800",
    ],
)
def test_hostile_searches_find_nothing_and_break_nothing(verification, typed):
    client = operator(*VIEW, "view_number")
    for name in ("call", "verification", "phone", "rule"):
        query = {"q": typed.encode("utf-8", "surrogatepass")}
        response = client.get(url(name), query)
        assert response.status_code == 200
        # Django refuses a NUL in the form of the search, and then shows the list.
        if typed != "\0":
            assert not response.context["cl"].result_list


def test_verifications_by_the_status_that_is_shown(many):
    """The stored state is pending too when the time or the attempts are used up."""
    now = timezone.now()
    changes = {
        "pending": {},
        "expired": {"created_at": now - timedelta(seconds=301), "expires_at": now},
        "failed": {"attempts_left": 0},
        "verified": {"state": "verified"},
        "redeemed": {"state": "redeemed", "expires_at": now},
        "cancelled": {"state": "cancelled"},
    }
    for row, change in zip(many, [*changes.values(), {"state": "failed"}], strict=False):
        Verification.objects.filter(pk=row.pk).update(**change)
    Verification.objects.filter(pk__in=[row.pk for row in many[7:]]).delete()
    client = operator(*VIEW)
    for status in changes:
        found = listed(client, "verification", status=status)
        assert {row.status for row in found} == {status}
        assert len(found) == 1 + (status == "failed")
    assert len(listed(client, "verification")) == 7
    assert not listed(client, "verification", status="nothing")


@pytest.mark.parametrize("value", ["\0", "nobody", "'", "9" * 5000])
@pytest.mark.parametrize("name", ["backend", "reason"])
def test_a_filter_with_what_is_no_choice_finds_nothing(verification, name, value):
    response = operator(*VIEW).get(url("call"), {name: value})
    assert response.status_code == 200
    assert not response.context["cl"].result_list


HOSTILE = [
    ("call", "phone__number__startswith", "+7916"),
    ("call", "phone__number", NUMBER),
    ("call", "phone__number__gte", "+7916"),
    ("call", "verification__phone__number__contains", "916"),
    ("call", "code_digest__startswith", "a"),
    ("call", "verification__session__startswith", "a"),
    ("call", "network__startswith", "2"),
    ("call", "provider_message__contains", "916"),
    ("call", "phone__owner__password__startswith", "md5"),
    ("verification", "phone__number__startswith", "+7"),
    ("verification", "session__startswith", "a"),
    ("verification", "user__password__startswith", "md5"),
    ("verification", "calls__code_digest__startswith", "a"),
    ("phone", "number__startswith", "+7916"),
    ("phone", "number__regex", "^.7916"),
    ("phone", "number__lt", "+7917"),
    ("phone", "number", NUMBER),
    ("phone", "owner__password__startswith", "md5"),
    ("phone", "verifications__ip__startswith", "2"),
    ("rule", "prefix__startswith", "+7916"),
    ("rule", "created_by__password__startswith", "md5"),
]


@pytest.mark.parametrize(("name", "lookup", "value"), HOSTILE)
def test_no_lookup_reveals_anything_bit_by_bit(verification, name, lookup, value):
    assert operator(*VIEW).get(url(name), {lookup: value}).status_code == 400
    seeing = operator(*VIEW, "view_number", name="seeing")
    assert seeing.get(url(name), {lookup: value}).status_code == 400


@pytest.mark.parametrize("name", ["call", "verification", "phone", "rule"])
def test_no_order_reveals_numbers(outbox, configure, name):
    configure(CALLS_PER_PREFIX=None)
    endings = list(range(0, 9000, 1000))
    random.Random(7).shuffle(endings)
    for ending in endings:
        services.start(f"+791612{ending:05}")
        Rule.objects.create(action="deny", prefix=f"+791612{ending:05}")
    client = operator(*VIEW)

    def order(**query):
        return [row.pk for row in listed(client, name, **query)]

    newest_first = order()
    allowed = (newest_first, newest_first[::-1])
    for column in range(12):
        assert order(o=column) in allowed
        assert order(o=-column) in allowed


def test_autocomplete_finds_whole_numbers_only(verification, rf):
    """A site may let its own models choose a phone by autocomplete."""
    from django.contrib import admin

    phones = admin.site.get_model_admin(Phone)
    request = rf.get("/")
    operator(*VIEW)
    request.user = get_user_model().objects.get(username="operator")

    def found(term):
        return list(phones.get_search_results(request, phones.get_queryset(request), term)[0])

    assert found(NUMBER) == [verification.phone]
    for length in range(1, len(NUMBER)):
        assert found(NUMBER[:length]) == []
    for start in range(3, len(NUMBER)):  # what follows the country code is a whole number too
        assert found(NUMBER[start:]) == []


def test_numbers_are_masked_but_to_those_who_may_see_them(verification):
    Call.objects.update(provider_message=f"no route to {NUMBER} or 8 (916) 123-45-67")
    rule = Rule.objects.create(action="deny", prefix=NUMBER)
    everything = (*VIEW, "add_rule", "change_rule", "delete_rule", "block_phone", "forget_phone")
    client = operator(*everything, "export_call")
    seeing = operator(*everything, "export_call", "view_number", name="seeing")
    pages = [
        *(url(name) for name in ("call", "verification", "phone", "rule")),
        *(url(name) + "?q=89161234567" for name in ("call", "verification", "phone", "rule")),
        url("call", verification.newest_call.pk),
        url("verification", verification.pk),
        url("phone", verification.phone.pk),
        url("rule", rule.pk),
        f"/admin/django_flashcall/rule/{rule.pk}/delete/",
        f"/admin/django_flashcall/phone/{verification.phone.pk}/history/",
        url("call_statistics"),
        url("call_export"),
        "/admin/django_flashcall/",
        "/admin/",
    ]
    shown = 0
    for page in pages:
        response = client.get(page)
        assert response.status_code == 200, page
        text = response.getvalue().decode().replace("89161234567", "")  # what was searched for
        assert HIDDEN not in text, page
        assert "(916) 123" not in text, page
        shown += HIDDEN in seeing.get(page).getvalue().decode().replace("89161234567", "")
    assert shown > 7


def test_a_code_is_nowhere(verification, admin_client):
    digest = Call.objects.get().code_digest
    assert digest
    for page in (
        url("call"),
        url("call", verification.newest_call.pk),
        url("verification", verification.pk),
        url("call_export"),
    ):
        text = admin_client.get(page).getvalue().decode()
        assert digest not in text
        assert verification.session not in text or not verification.session


def test_what_a_session_is_bound_by_is_nowhere(outbox, admin_client):
    verification = services.start(NUMBER, session="bound-by-this")
    for page in (url("verification"), url("verification", verification.pk)):
        assert b"bound-by-this" not in admin_client.get(page).content


@pytest.mark.parametrize("name", ["call", "verification", "phone"])
def test_history_is_read_only(verification, admin_client, name):
    row = {"call": verification.newest_call, "verification": verification}.get(
        name, verification.phone
    )
    assert admin_client.get(f"/admin/django_flashcall/{name}/add/").status_code == 403
    assert admin_client.post(url(name, row.pk), {"number": "+7"}).status_code == 403
    assert admin_client.post(f"/admin/django_flashcall/{name}/{row.pk}/delete/").status_code == 403
    assert b"delete_selected" not in admin_client.get(url(name)).content


@pytest.mark.parametrize(
    ("permissions", "page", "status"),
    [
        ((), "call", 403),
        ((), "call_statistics", 403),
        ((), "call_export", 403),
        ((), "call_test", 403),
        (("view_call",), "call_statistics", 200),
        (("view_call",), "call_export", 403),
        (("view_call",), "call_test", 403),
        (("export_call",), "call_export", 403),
        (("place_test_call",), "call_test", 403),
        (("view_call", "export_call"), "call_export", 200),
        (("view_call", "place_test_call"), "call_test", 200),
        (("view_call", "view_number"), "phone", 403),
    ],
)
def test_permissions_hold(permissions, page, status):
    assert operator(*permissions).get(url(page)).status_code == status


@pytest.mark.parametrize("name", ["call", "verification", "phone", "rule"])
def test_lists_take_the_same_few_queries_whatever_they_hold(verification, configure, outbox, name):
    configure(CALLS_PER_IP=None, CALLS_PER_PREFIX=None, CALLS_TOTAL=None)
    owners = [get_user_model().objects.create_user(username=f"owner{n}") for n in range(20)]
    client = operator(*VIEW, "view_number")
    Rule.objects.create(action="deny", prefix="+7900", created_by=owners[0])
    few = queries(client, url(name))
    for number, owner in enumerate(owners):
        started = services.start(f"+7916555{number:04}")
        Phone.objects.filter(pk=started.phone.pk).update(owner=owner)
        Rule.objects.create(action="deny", prefix=f"+79015{number:02}", created_by=owner)
    many = queries(client, url(name))
    more = int(connection.vendor == "mysql")  # and one more for a search
    assert len(many) == len(few) <= 8 + more, many
    assert len(queries(client, url(name) + "?q=89161234567")) <= 8 + 2 * more


def test_the_count_stops_and_says_so(many, monkeypatch):
    monkeypatch.setattr(base, "MAX_ROWS", 20)
    response = operator(*VIEW).get(url("call"))
    assert response.context["cl"].result_count == 20
    assert b"Only the first 20 are listed" in response.content
    filtered = operator(*VIEW, name="other").get(url("call"), {"q": "+79165550001"})
    assert filtered.context["cl"].result_count == 1
    assert b"are listed" not in filtered.content


def test_the_purposes_that_there_are_can_be_chosen(verification, many):
    services.pretend_call("+79161230000", purpose="second-factor")
    Verification.objects.filter(pk__in=[row.pk for row in many[:2]]).update(purpose="login")
    client = operator(*VIEW)
    page = client.get(url("verification"))
    (choices,) = [spec for spec in page.context["cl"].filter_specs if spec.title == "purpose"]
    assert choices.lookup_choices == [(n, n) for n in ("login", "second-factor", "signup")]
    assert set(listed(client, "verification", purpose="login")) == set(many[:2])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status__exact": "rejected"}, {1}),
        ({"channel__exact": "voice_code"}, {2}),
        ({"backend": "voice"}, {2}),
        ({"reason": "busy"}, {3}),
        ({"status__exact": "undelivered", "reason": "busy"}, {3}),
        ({"reason": "nonsense"}, set()),
    ],
)
def test_filters(many, configure, query, expected):
    configure(
        BACKENDS={
            alias: {"BACKEND": "django_flashcall.backends.locmem.LocmemBackend"}
            for alias in ("default", "voice")
        }
    )
    calls = [verification.newest_call for verification in many]
    changes = {
        1: {"status": "rejected", "error_code": "invalid_destination"},
        2: {"channel": "voice_code", "backend": "voice"},
        3: {"status": "undelivered", "error_code": "busy"},
    }
    for index, change in changes.items():
        Call.objects.filter(pk=calls[index].pk).update(**change)
    found = {calls.index(call) for call in listed(operator(*VIEW), "call", **query)}
    if query.get("reason") == "nonsense":
        assert not found & {3}
    else:
        assert found == expected


def test_dates_lead_to_older_calls(many):
    calls = [verification.newest_call for verification in many]
    at = timezone.now().replace(year=2024, month=2, day=29, hour=12)
    Call.objects.filter(pk=calls[4].pk).update(created_at=at)
    Call.objects.filter(pk=calls[5].pk).update(created_at=at + timedelta(days=33))
    client = operator(*VIEW)
    page = client.get(url("call")).content.decode()
    for year in range(2024, timezone.now().year + 1):
        assert f"?created_at__year={year}" in page
    page = client.get(url("call"), {"created_at__year": 2024}).content.decode()
    for month in ("2024", "month=2", "month=3", "month=4"):
        assert month in page
    assert "month=5" not in page
    day = {"created_at__year": 2024, "created_at__month": 2, "created_at__day": 29}
    assert listed(client, "call", **day) == [calls[4]]
    assert listed(client, "call", created_at__year=2023) == []


def exported(client, **query):
    response = client.get(url("call_export"), query)
    assert response.streaming
    text = response.getvalue().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_export_holds_what_the_list_would_show(many):
    Call.objects.filter(pk=many[7].newest_call.pk).update(status="undelivered", error_code="busy")
    client = operator(*VIEW, "export_call")
    assert len(exported(client)) == 30
    (row,) = exported(client, status__exact="undelivered")
    assert row["number"] == "'+7******0007"
    assert row["reason"] == "busy"
    assert row["reason_words"] == "line busy"
    assert [row["verification"] for row in exported(client, q="+79165550003")] == [str(many[3].pk)]
    seeing = operator(*VIEW, "export_call", "view_number", name="seeing")
    assert exported(seeing, q="+79165550003")[0]["number"] == "'+79165550003"


def test_the_export_refuses_foreign_lookups(verification):
    client = operator(*VIEW, "export_call")
    assert client.get(url("call_export"), {"phone__number__gt": "+7"}).status_code == 400
    assert client.get(url("call_export"), {"created_at__gte": "nonsense"}).status_code == 302


@pytest.mark.parametrize(
    "words",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("http://x","y")'],
)
def test_no_cell_of_the_export_computes(verification, words):
    Call.objects.update(provider_message=words, provider_id=words, mcc_mnc="=1+1")
    response = operator(*VIEW, "export_call").get(url("call_export"))
    rows = list(csv.reader(io.StringIO(response.getvalue().decode("utf-8-sig"), newline="")))
    assert len(rows) == 2
    for cell in rows[1]:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert f"'{words}" in rows[1]


def test_the_export_is_logged_without_what_was_searched_for(verification):
    client = operator(*VIEW, "export_call")
    assert exported(client, q=NUMBER, status__exact="sent")
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "operator"
    assert entry.change_message == "Exported with masked numbers; filters: q, status__exact"
    assert entry.content_type.model_class() is Call


def test_a_rejected_filter_value_is_no_error(verification):
    client = operator(*VIEW)
    for query in ({"phone": "x"}, {"verification": "x"}, {"created_at__year": "x"}, {"p": "999"}):
        try:
            status = client.get(url("call"), query).status_code
        except (ValidationError, ValueError):
            pytest.fail(f"{query} is not taken care of")
        assert status in (200, 302, 400)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_every_page_in_every_language(verification, admin_client, language):
    DeliveryReport.objects.create(call=verification.newest_call, outcome="delivered", price="0.45")
    Verification.objects.update(attempts_left=0)
    rule = Rule.objects.create(action="deny", channel="voice_code")
    for page in (
        *(url(name) for name in ("call", "verification", "phone", "rule")),
        url("call", verification.newest_call.pk),
        url("verification", verification.pk),
        url("phone", verification.phone.pk),
        url("rule", rule.pk),
        *(f"{url('call_statistics')}?period={period}" for period in ("day", "week", "month", "x")),
        url("call_test"),
        url("call_export"),
        "/admin/django_flashcall/",
    ):
        response = admin_client.get(page, headers={"accept-language": language})
        assert response.status_code == 200
        assert response.getvalue()


def test_a_sites_own_admin_of_our_models_needs_nothing_of_ours(verification, admin_user, rf):
    from django.contrib import admin

    plain = admin.ModelAdmin(Call, admin.AdminSite("own"))
    request = rf.get("/")
    request.user = admin_user
    response = plain.changelist_view(request)
    assert "admin/django_flashcall" not in str(response.template_name[-1])
