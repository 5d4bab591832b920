"""Queries that are compiled once: they find what the ORM finds, for every value and thread."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Value
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_flashcall import services
from django_flashcall.models import Call, CallCount, CircuitBreaker, Phone, Verification
from django_flashcall.prepared.queries import Prepared
from django_flashcall.prepared.records import Record, Seconds, first_part, part, seconds_of
from django_flashcall.prepared.writes import (
    PreparedAdd,
    PreparedInsert,
    PreparedUpdate,
    execute_all,
)
from django_flashcall.protection import facts, rules, visitors

NUMBERS = [f"+7916123000{n}" for n in range(4)]


@pytest.fixture
def calls(db, outbox):
    for number in NUMBERS:
        services.start(number)
    return list(Call.objects.order_by("pk"))


def columns(calls):
    return calls.order_by("pk").values_list("reference", "created_at", "is_test", "phone__number")


BY_ALL = Prepared(
    Call,
    lambda *, id, since, number, reference: [
        columns(
            Call.objects.filter(
                pk=id, created_at__gte=since, phone__number=number, reference=reference
            )
        )
    ],
)


def test_values_of_every_type(calls):
    for call in calls:
        (row,) = BY_ALL.rows(
            id=call.pk, since=call.created_at, number=call.phone.number, reference=call.reference
        )
        assert row == columns(Call.objects.filter(pk=call.pk)).get()
    later = call.created_at + timedelta(microseconds=1)
    values = {"id": call.pk, "number": call.phone.number, "reference": call.reference}
    assert BY_ALL.rows(since=later, **values) == []
    assert BY_ALL.rows(since=call.created_at, **{**values, "reference": uuid.uuid4()}) == []


def test_a_value_of_another_type_than_its_field(calls):
    """The ORM converts it. Here, the placeholder would be converted, and looked for."""
    by_text = Prepared(Call, lambda *, id: [Call.objects.filter(provider_id=id).values_list("pk")])
    with pytest.raises(TypeError, match="'id'"):
        by_text.rows(id=8812345)


def test_it_is_compiled_once(calls):
    built = []

    def build(number):
        built.append(number)
        return [Phone.objects.filter(number=number).values_list("number")]

    query = Prepared(Phone, build)
    for number in NUMBERS:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert query.rows(number=number) == [(number,)]
        assert built[0] not in captured[0]["sql"]
    assert len(built) == 1
    assert built[0] not in NUMBERS


def test_a_value_is_no_part_of_the_query(calls):
    query = Prepared(Phone, lambda number: [Phone.objects.filter(number=number).values_list("pk")])
    for hostile in ("' OR ''='", "%s", "%(number)s", "placeholder 0", "\\"):
        assert query.rows(number=hostile) == []


def test_options_make_queries_of_their_own(calls):
    query = Prepared(
        Phone,
        lambda limit, *, since: [
            Phone.objects.filter(created_at__gt=since).values_list("pk")[:limit]
        ],
    )
    since = timezone.now() - timedelta(hours=1)
    assert [len(query.rows(limit, since=since)) for limit in (1, 3, 2, 9)] == [1, 3, 2, 4]


def test_several_querysets(calls):
    def build(*, first, last):
        phones = Phone.objects.order_by("-pk")
        return [
            phones.filter(number__lt=last).values_list(Value(1), "number", "created_at")[:2],
            phones.filter(number=first).values_list(Value(2), "number", "created_at")[:1],
        ]

    rows = Prepared(Phone, build).rows(first=NUMBERS[0], last=NUMBERS[3])
    assert [(part, number) for part, number, _ in rows] == [
        (1, NUMBERS[2]),
        (1, NUMBERS[1]),
        (2, NUMBERS[0]),
    ]
    assert all(at == Phone.objects.get(number=number).created_at for _, number, at in rows)


@pytest.mark.django_db(transaction=True)
def test_threads_share_it(outbox):
    for number in NUMBERS:
        services.start(number)
    query = Prepared(
        Phone,
        lambda number: [Phone.objects.filter(number=number).values_list("number", "created_at")],
    )

    def find(number):
        try:
            return query.rows(number=number)[0][0]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find, NUMBERS * 5)) == NUMBERS * 5


SET = PreparedUpdate(
    Call,
    lambda *, pk, **values: (Call.objects.filter(pk=pk, is_test=False), values),
)


def test_an_update(calls):
    first, *others = calls
    at = timezone.now()
    for values in (
        {"provider_message": "a", "provider_code": 8, "must_mend": True, "answered_at": at},
        {"provider_message": "%s", "provider_code": 0, "must_mend": False, "answered_at": None},
        {"provider_message": "", "provider_code": None, "must_mend": True, "answered_at": at},
    ):
        assert SET.execute(pk=first.pk, **values) == 1
        assert Call.objects.filter(pk=first.pk).values(*values).get() == values
    assert SET.execute(pk=max(call.pk for call in calls) + 1, provider_message="b") == 0
    assert list(Call.objects.exclude(pk=first.pk).order_by("pk")) == others
    assert not Call.objects.exclude(pk=first.pk).exclude(provider_message="").exists()


@pytest.mark.parametrize("total", ["100/day", None])
def test_times_are_those_of_the_orm_in_every_part(db, configure, total):
    """Some parts of the query have no such times."""
    configure(CALLS_TOTAL=total)
    now = timezone.now()
    ends = now + timedelta(hours=1), now + timedelta(hours=2)
    Phone.objects.create(
        number=NUMBERS[0], last_called_at=now, waits_until=ends[0], known_waits_until=ends[1]
    )
    CircuitBreaker.objects.create(backend="default", failures=5, opened_at=now, next_try_at=ends[0])
    for address in ("203.0.113.9", "2001:db8::1", None):
        found = facts.look(NUMBERS[0], visitors.source(address), now).judgement
        for judgement in (found, rules.judge(NUMBERS[0])):
            phone, breaker = judgement.phone, judgement.breakers["default"]
            assert (phone.waits_until, phone.known_waits_until) == ends
            assert (phone.last_called_at, breaker.opened_at) == (now, now)
            assert breaker.next_try_at == ends[0]


INSERT_PHONE = PreparedInsert(Phone, ignore_conflicts=True)
INSERT_VERIFICATION = PreparedInsert(Verification)
RENAME = PreparedUpdate(
    Call, lambda *, pk, message: (Call.objects.filter(pk=pk), {"provider_message": message})
)


def new_rows(number):
    """Return a phone and a verification that refers to it, not saved."""
    now = timezone.now()
    phone = Phone(number=number, created_at=now)
    verification = Verification(
        phone=phone,
        purpose="signup",
        channel="flash_call",
        code_length=4,
        max_attempts=3,
        attempts_left=3,
        calls_left=2,
        created_at=now,
        expires_at=now + timedelta(minutes=5),
    )
    return phone, verification


SECONDS = Prepared(
    Call,
    lambda *, id, use_tz: [
        first_part("none", Call.objects.filter(pk=0), "created_at"),
        part("call", Call.objects.filter(pk=id), "created_at", seconds=Seconds("created_at")),
    ],
)


@pytest.mark.parametrize("microsecond", [0, 1, 123456, 999999])
def test_seconds_are_those_of_the_time(calls, microsecond):
    at = timezone.now().replace(microsecond=microsecond)
    Call.objects.filter(pk=calls[0].pk).update(created_at=at)
    (record,) = map(Record._make, SECONDS.rows(id=calls[0].pk, use_tz=True))
    assert (record.at, record.seconds) == (at, at.timestamp())


def test_seconds_without_time_zones(calls, settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    times = [datetime(2026, 10, 25, 2, 59, fold=1), datetime(2026, 10, 25, 3, 1)]
    seconds = []
    for at in times:  # the clock is set back from three to two
        Call.objects.filter(pk=calls[0].pk).update(created_at=at)
        (record,) = map(Record._make, SECONDS.rows(id=calls[0].pk, use_tz=False))
        assert record.at == at
        assert record.seconds == seconds_of(at)
        seconds.append(record.seconds)
    assert seconds[1] - seconds[0] == 120


@pytest.fixture(params=[False, True])
def listened(request):
    """Whether something listens to the signals of phones: then, nothing joins their statements."""

    def hear(**kwargs):
        pass

    if request.param:
        post_save.connect(hear, Phone)
    yield request.param
    post_save.disconnect(hear, Phone)


@pytest.mark.parametrize("heard_of", [False, True])
def test_several_writes(calls, heard_of, request):
    """With listeners to the signals of a model, they are executed one after the other."""
    heard = []
    if heard_of:

        def hear_before(instance, **kwargs):
            heard.append((instance._state.adding, instance.phone_id is not None))

        def hear(instance, created, **kwargs):
            heard.append((instance.pk, created))

        pre_save.connect(hear_before, Verification)
        post_save.connect(hear, Verification)
        request.addfinalizer(lambda: pre_save.disconnect(hear_before, Verification))
        request.addfinalizer(lambda: post_save.disconnect(hear, Verification))
    phone, verification = new_rows("+79990000000")
    with CaptureQueriesContext(connection) as captured:
        done = execute_all(
            INSERT_PHONE.bind(phone),
            INSERT_VERIFICATION.bind(verification),
            RENAME.bind(pk=calls[0].pk, message="100% 'done'"),
            RENAME.bind(pk=calls[-1].pk + 1, message="nobody"),
            savepoint=False,
        )
    assert done == [True, True, True, False]
    assert heard == ([(True, True), (verification.pk, True)] if heard_of else [])
    is_one = connection.vendor == "postgresql" and not heard_of
    assert len(captured) == (1 if is_one else 4)
    assert phone.pk is not None
    assert verification.phone_id == phone.pk
    assert not verification._state.adding
    saved = Verification.objects.get(phone=phone)
    for field in Verification._meta.concrete_fields:
        assert getattr(saved, field.attname) == getattr(verification, field.attname), field
    assert saved.phone.created_at == phone.created_at
    calls[0].refresh_from_db()
    assert calls[0].provider_message == "100% 'done'"


def test_nothing_is_written_if_the_first_writes_nothing(calls):
    phone, verification = new_rows(NUMBERS[0])  # it exists
    rename = RENAME.bind(pk=calls[0].pk, message="changed")
    first = INSERT_PHONE.bind(phone)
    assert execute_all(first, INSERT_VERIFICATION.bind(verification), rename) == []
    assert phone.pk is None
    assert verification._state.adding
    nobody = RENAME.bind(pk=calls[-1].pk + 1, message="nobody")
    assert execute_all(nobody, rename) == []
    assert Verification.objects.count() == len(calls)
    assert not Call.objects.exclude(provider_message="").exists()


@pytest.mark.django_db(transaction=True)
def test_all_or_none_of_the_writes_is_stored(listened):
    phone, verification = new_rows("+79990000000")
    verification.purpose = None  # refused by the database
    with pytest.raises(DatabaseError):
        execute_all(INSERT_PHONE.bind(phone), INSERT_VERIFICATION.bind(verification), durable=True)
    assert not Phone.objects.exists()
    assert connection.get_autocommit()


def test_the_caller_can_go_on_after_an_error(calls):
    phone, verification = new_rows("+79990000000")
    verification.purpose = None  # refused by the database
    with pytest.raises(DatabaseError):
        execute_all(INSERT_PHONE.bind(phone), INSERT_VERIFICATION.bind(verification))
    assert not Phone.objects.filter(number=phone.number).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("after_another", [False, True])
def test_a_number_is_added(after_another):
    """To a row that is made first, alone and as a part of another statement."""
    at = timezone.now()
    add = PreparedAdd(CallCount, keys=["begins_at", "part"], number="calls")
    for calls, sum_ in ((2, 2), (-1, 1), (5, 6)):
        write = add.bind(CallCount(begins_at=at, part=3, calls=calls))
        other = INSERT_PHONE.bind(Phone(number=f"+7999000000{sum_}", created_at=at))
        assert execute_all(*([other] if after_another else []), write)[-1]
        assert CallCount.objects.get(part=3).calls == sum_
    write = add.bind(CallCount(begins_at=at, part=4, calls=1))
    assert write.execute()
    assert set(CallCount.objects.values_list("part", "calls")) == {(3, 6), (4, 1)}


@pytest.mark.django_db(transaction=True)
def test_writes_are_executed_again_after_a_rollback(listened):
    """After a deadlock, for example: what refers to the new row must refer to the second one."""
    phone, verification = new_rows("+79990000000")
    writes = INSERT_PHONE.bind(phone), INSERT_VERIFICATION.bind(verification)
    with transaction.atomic():
        assert execute_all(*writes) == [True, True]
        transaction.set_rollback(True)
    Phone.objects.create(number="+79990000001")  # SQLite would give the same key again
    assert execute_all(*writes, durable=True) == [True, True]
    assert Verification.objects.get().phone == Phone.objects.get(number=phone.number) == phone
    assert verification.phone_id == phone.pk


@pytest.mark.django_db(transaction=True)
def test_durable_writes_are_refused_in_a_transaction():
    phone, _ = new_rows("+79990000000")
    with transaction.atomic(), pytest.raises(RuntimeError):
        execute_all(INSERT_PHONE.bind(phone), durable=True)
    assert not Phone.objects.exists()
    with transaction.atomic():
        assert execute_all(INSERT_PHONE.bind(phone)) == [True]
    assert Phone.objects.exists()
