"""The figures and their page: counted right, in few queries, on every database."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import quantiles
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import phones
from django_flashcall.insight import statistics
from django_flashcall.models import Call, Phone, Verification

from .operators import VIEW, operator, url

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


def happened(at, number="+79161234567", *, verified=False, took=200, **values):
    """A verification of one call, whose answer took so many milliseconds."""
    phone, _ = Phone.objects.get_or_create(number=number)
    verification = Verification.objects.create(
        phone=phone,
        purpose="signup",
        channel="flash_call",
        code_length=4,
        max_attempts=3,
        attempts_left=3,
        calls_left=2,
        created_at=at,
        expires_at=at,
        verified_at=at if verified else None,
    )
    return Call.objects.create(
        verification=verification,
        phone=phone,
        channel="flash_call",
        backend="default",
        country=phones.country(number),
        created_at=at,
        answered_at=None if took is None else at + timedelta(milliseconds=took),
        **{"status": "delivered", **values},
    )


def test_outcomes_by_day():
    for status, number in (("delivered", 3), ("rejected", 1), ("unknown", 2)):
        for _ in range(number):
            happened(NOW - timedelta(days=2), status=status)
    happened(NOW, status="queued", took=None)
    happened(NOW - timedelta(days=7))  # before the week
    happened(NOW + timedelta(minutes=1))  # after it
    figures = statistics.figures("week", now=NOW)
    assert [bucket.start.day for bucket in figures.buckets] == [12, 13, 14, 15, 16, 17, 18]
    counts = {bucket.start.day: dict(bucket.calls) for bucket in figures.buckets if bucket.calls}
    assert counts == {16: {"delivered": 3, "rejected": 1, "unknown": 2}, 18: {"queued": 1}}
    assert figures.total.calls.total() == 7
    assert figures.total.started == 7


@pytest.mark.parametrize(("period", "buckets"), [("day", 24), ("week", 7), ("month", 30)])
def test_periods_have_their_empty_hours_and_days(period, buckets):
    figures = statistics.figures(period, now=NOW)
    assert len(figures.buckets) == buckets
    assert figures.total.calls.total() == 0
    assert figures.total.p50 is figures.total.share_verified is None
    happened(figures.buckets[0].start)
    happened(figures.buckets[0].start - timedelta(microseconds=1))
    happened(NOW)
    figures = statistics.figures(period, now=NOW)
    assert len(figures.buckets) == buckets
    assert figures.buckets[0].calls.total() == figures.buckets[-1].calls.total() == 1


@pytest.mark.parametrize("zone", ["Europe/Moscow", "Asia/Kolkata", "America/St_Johns"])
@pytest.mark.parametrize("now", [NOW, datetime(2026, 3, 8, 20, tzinfo=UTC)])
@pytest.mark.parametrize(("period", "buckets"), [("day", 24), ("week", 7)])
def test_hours_and_days_are_those_of_the_sites_zone(zone, now, period, buckets):
    """The second moment is the day on which summer time begins in St. John's."""
    for minutes in range(0, 26 * 60, 10):
        happened(now - timedelta(minutes=minutes))
    with timezone.override(ZoneInfo(zone)):
        figures = statistics.figures(period, now=now)
        assert len(figures.buckets) == buckets
        for bucket in figures.buckets:
            local = timezone.localtime(bucket.start)
            assert local.minute == 0
            assert period == "day" or local.hour == 0
        if period == "day":
            assert all(bucket.calls.total() == 6 for bucket in figures.buckets[:-1])
        assert sum(bucket.calls.total() for bucket in figures.buckets) == (
            Call.objects.filter(created_at__gte=figures.buckets[0].start).count()
        )


def test_share_verified():
    for number in range(8):
        happened(NOW, verified=number < 6)
    figures = statistics.figures("day", now=NOW)
    assert figures.buckets[-1].share_verified == figures.total.share_verified == 0.75
    assert figures.buckets[0].share_verified is None


def test_percentiles_are_right_to_one_percent():
    dice = random.Random(5)
    times = [round(dice.lognormvariate(5.5, 0.8)) for _ in range(400)]
    for took in times:
        happened(NOW, took=took)
    happened(NOW, took=None)
    total = statistics.figures("day", now=NOW).total
    # The classes' own error, and that of the rank between two of so many answers.
    cuts = quantiles(times, n=200, method="inclusive")
    assert cuts[97] * 0.99 <= total.p50 <= cuts[101] * 1.01
    assert cuts[187] * 0.99 <= total.p95 <= cuts[191] * 1.01


@pytest.mark.parametrize("took", [0, 1, 7, 250, 14_900, 600_000])
def test_one_answer_is_its_own_percentile(took):
    happened(NOW, took=took)
    total = statistics.figures("day", now=NOW).total
    assert total.p50 == total.p95 == pytest.approx(max(took, 1), rel=0.0101)


def test_reasons():
    for reason, number in (("busy", 2), ("absent_subscriber", 3), ("", 4)):
        for _ in range(number):
            happened(NOW, error_code=reason)
    figures = statistics.figures("day", now=NOW)
    assert figures.reasons == [("absent_subscriber", 3), ("busy", 2)]


def test_networks_and_countries_and_what_they_cost():
    happened(NOW, mcc_mnc="25001", price="0.45")
    happened(NOW, mcc_mnc="25001", status="undelivered", price="0.10")
    happened(NOW, "+77011234567", mcc_mnc="40102", status="sent")
    happened(NOW, "+77011234567", status="rejected")
    happened(NOW, "+12425551234")
    happened(NOW, "+375291234567")
    happened(NOW, "+74951234567")
    figures = statistics.figures("day", now=NOW)
    networks = {group.name: group for group in figures.networks}
    assert list(networks) == ["25001", "40102"]
    mts = networks["25001"]
    assert (mts.calls, mts.delivered, mts.undelivered, mts.rejected) == (2, 1, 1, 0)
    assert mts.cost == Decimal("0.55")
    countries = {group.name: group.calls for group in figures.countries}
    assert countries == {"RU": 3, "KZ": 2, "BS": 1, "BY": 1}
    assert figures.total.cost == figures.buckets[-1].cost == Decimal("0.55")
    assert figures.priced == 2


def test_calls_that_nobody_placed_are_no_figures():
    happened(NOW)
    happened(NOW, is_test=True)
    total = statistics.figures("day", now=NOW).total
    assert (sum(total.calls.values()), total.started) == (1, 1)


@pytest.mark.parametrize("period", statistics.DAYS)
def test_six_queries(period):
    for day in range(40):
        happened(NOW - timedelta(days=day), mcc_mnc=f"250{day:02}", error_code="busy", price=1)
    with CaptureQueriesContext(connection) as captured:
        statistics.figures(period, now=NOW)
    assert len(captured) == 6


def page(**query):
    return operator(*VIEW).get(url("call_statistics"), query)


def test_the_page_is_read_without_scripts():
    now = timezone.now()
    for number in range(5):
        happened(
            now,
            verified=number < 4,
            mcc_mnc="25001",
            error_code="" if number else "busy",
            status="delivered" if number else "undelivered",
            price="1234.5",
        )
    response = page(period="week")
    text = response.content.decode()
    for words in ("80.0 %", "20.0 %", "200 ms", "line busy", "MTS", "RU", "6,172.50"):
        assert words in text, words
    main = text[text.index('id="content-main"') :]
    tables = re.findall(r"<table>.*?</table>", main, re.S)
    assert len(tables) == len(response.context["charts"]) == 7
    assert all("data-value=" in table for table in tables)


def test_the_page_has_no_script_and_no_style_of_its_own():
    """So that a strict Content-Security-Policy lets everything on it work."""
    happened(timezone.now())
    text = page().content.decode()
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    main = text[text.index('id="content-main"') :]
    assert "style=" not in main
    assert "<style" not in main
    assert not re.search(r"\son\w+=", main)


def test_the_page_of_nothing():
    text = page().content.decode()
    assert "Nothing in this period." in text
    assert "Cost" not in text


def test_more_networks_than_a_chart_holds_are_summed_up():
    now = timezone.now()
    for code in range(20):
        for _ in range(21 - code):
            happened(now, mcc_mnc=f"310{code:02}", price="1.00")
    charts = {chart.title: chart for chart in page().context["charts"]}
    rows = charts["By operator"].rows
    assert len(rows) == 13
    name, cells = rows[-1]
    assert name == "others"
    assert cells[0].value == cells[-1].value == sum(range(2, 10))
    assert rows[0][1][0].value == rows[0][1][-1].value == 21


def test_the_page_takes_few_queries():
    happened(timezone.now())
    client = operator(*VIEW)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url("call_statistics"), {"period": "month"}).status_code == 200
    assert sum("flashcall" in query["sql"].split("WHERE")[0] for query in captured) <= 8


def test_numbers_of_the_charts_are_those_of_machines(admin_client):
    """In a language with decimal commas, the numbers that are drawn keep their points."""
    happened(timezone.now(), took=1234, price="0.5")
    text = admin_client.get(
        url("call_statistics"), headers={"accept-language": "ru"}
    ).content.decode()
    values = re.findall(r'data-value="([^"]*)"', text)
    assert "0.5" in values
    assert all(re.fullmatch(r"\d+(\.\d+)?", value) for value in values)
