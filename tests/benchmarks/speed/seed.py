"""Fills the tables of all packages with the calls of ninety days. PostgreSQL makes the rows itself.

At most half of the calls, and at most 500,000, are of the last day. A fifth of these went to one
range of numbers, and another fifth came from one address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from django.apps import apps
from django.core.management import call_command
from django.db import connection

BUSY_RANGE = "+7916123"
BUSY_ADDRESS = "203.0.113.7"
MOST_OF_A_DAY = 500_000

MOST_WITH_INDEXES = 1_000_000
"""Above that, indexes are built at the end. It is faster, but makes them smaller than on a site."""

TIME_ORDERED = (
    "(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0')"
    " || '7' || left(md5({text}), 3) || '8' || right(md5({text}), 15))::uuid"
)
"""A UUID of version 7, like those of the app."""

VERIFICATIONS = f"""
CREATE TEMPORARY TABLE seeded AS
WITH numbered AS (
    SELECT i, i - (%(calls)s - %(recent)s) AS today, (i::bigint * 7919) %% 100 AS chance
    FROM generate_series(1, %(calls)s) AS i
), placed AS (
    SELECT *, today > 0 AND today %% 5 = 0 AS to_range, today > 0 AND today %% 5 = 1 AS from_address
    FROM numbered
), begun AS (
    SELECT *, CASE
            WHEN today > 0 THEN now() - interval '15 minutes'
                - interval '23 hours' * ((%(recent)s - today)::float / %(recent)s)
            ELSE now() - interval '1 day'
                - interval '88 days' * (-today::float / (%(calls)s - %(recent)s))
        END AS at,
        CASE
            WHEN to_range OR from_address
                THEN CASE WHEN i / 5 %% 10 < 9 THEN 'redeemed' ELSE 'pending' END
            WHEN chance < 65 THEN 'redeemed' WHEN chance < 70 THEN 'verified'
            WHEN chance < 73 THEN 'failed' ELSE 'pending'
        END AS state
    FROM placed
)
SELECT i, {TIME_ORDERED.format(at="at", text="'verification' || i")} AS id, at, state,
    CASE WHEN to_range THEN '{BUSY_RANGE}' || lpad((today / 5 %% 10000)::text, 4, '0')
        ELSE '+79' || lpad(((i %% (%(calls)s * 7 / 10))::bigint * 7919 %% 500000000)::text, 9, '0')
    END AS number,
    CASE WHEN from_address THEN '{BUSY_ADDRESS}'
        ELSE '10.' || i / 62500 %% 250 || '.' || i / 250 %% 250 || '.' || i %% 250 + 1
    END AS ip,
    CASE state WHEN 'redeemed' THEN 2 WHEN 'verified' THEN 1 ELSE 0 END AS progress,
    CASE WHEN state IN ('redeemed', 'verified') THEN at + interval '20 seconds' END AS verified_at,
    CASE WHEN state IN ('redeemed', 'verified') THEN 'delivered'
        WHEN chance %% 10 < 6 THEN 'undelivered' WHEN chance %% 10 < 8 THEN 'sent'
        WHEN chance %% 10 < 9 THEN 'rejected' ELSE 'unknown'
    END AS outcome
FROM begun
"""

NUMBERS = """
(SELECT number, min(at) AS first, max(at) AS last, max(verified_at) AS verified_at,
        row_number() OVER (ORDER BY min(at)) AS n
 FROM seeded GROUP BY number ORDER BY min(at)) AS numbers
"""


def seed(calls: int) -> None:
    """Replace all rows by `calls` verifications with a call each, and as many of the peers."""
    call_command("flush", interactive=False, verbosity=0)
    recent = min(calls // 2, MOST_OF_A_DAY)
    with connection.cursor() as cursor:
        # The rows fit together: do not look up each foreign key.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SET work_mem = '256MB'")
        cursor.execute(VERIFICATIONS, {"calls": calls, "recent": recent})
        cursor.execute("ANALYZE seeded")
    with without_indexes() if calls > MOST_WITH_INDEXES else nullcontext():
        seed_ours()
        seed_peers()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE seeded")
        cursor.execute("RESET session_replication_role")
        cursor.execute("RESET work_mem")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")


MOST_AGAIN = 100_000
"""Above that, the rows that the benchmark adds itself make no difference."""


def refill(calls: int) -> None:
    """Fill small tables anew: otherwise, the benchmark's own requests multiply their rows."""
    if calls <= MOST_AGAIN:
        seed(calls)


@contextmanager
def without_indexes() -> Iterator[None]:
    """Drop the indexes of all tables, except those of constraints, and build them afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND NOT EXISTS"
            " (SELECT FROM pg_constraint WHERE conindid = quote_ident(indexname)::regclass)"
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        cursor.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in indexes:
            cursor.execute(definition)


def seed_ours() -> None:
    times = {"number": "number", "created_at": "first", "last_called_at": "last"}
    fill("django_flashcall.Phone", NUMBERS, {**times, "verified_at": "verified_at"})
    with_phone = "seeded JOIN django_flashcall_phone AS phone USING (number)"
    same = {"channel": "'flash_call'", "created_at": "at", "phone_id": "phone.id"}
    verification = {
        **same,
        "id": "seeded.id",
        "purpose": "'signup'",
        "state": "state",
        "code_length": "4",
        "max_attempts": "3",
        "attempts_left": "CASE state WHEN 'failed' THEN 0 WHEN 'pending' THEN 3 ELSE 2 END",
        "calls_left": "2",
        "ip": "ip::inet",
        "expires_at": "at + interval '5 minutes'",
        "verified_at": "seeded.verified_at",
        "verified_ip": "CASE WHEN progress > 0 THEN ip::inet END",
        "redeemed_at": "CASE state WHEN 'redeemed' THEN at + interval '40 seconds' END",
    }
    fill("django_flashcall.Verification", with_phone, verification, order="i")
    call = {
        **same,
        "verification_id": "seeded.id",
        "backend": "'default'",
        "reference": TIME_ORDERED.format(at="at", text="'call' || i"),
        "status": "outcome",
        "error_code": "CASE outcome WHEN 'undelivered' THEN 'busy' ELSE '' END",
        "provider_id": "CASE WHEN outcome IN ('rejected', 'unknown') THEN ''"
        " ELSE (7390000000 + i)::text END",
        "mcc_mnc": "CASE WHEN outcome LIKE '%%delivered' THEN '25001' ELSE '' END",
        # Those of older calls were erased in the night, by `flashcall_prune`.
        "code_digest": "CASE WHEN state = 'pending' AND at > now() - interval '1 day'"
        " THEN repeat(md5('code' || i), 2) ELSE '' END",
        "prefix": "left(number, -4)",
        "country": "'RU'",
        "network": "ip",
        "progress": "progress",
        "answered_at": "at + interval '200 milliseconds'",
    }
    fill("django_flashcall.Call", with_phone, call, order="i")
    report = {
        "call_id": "id",
        "outcome": "status",
        "error_code": "error_code",
        "mcc_mnc": "mcc_mnc",
        "created_at": "created_at + interval '10 seconds'",
    }
    reported = "(SELECT * FROM django_flashcall_call WHERE status LIKE '%%delivered') AS call"
    fill("django_flashcall.DeliveryReport", reported, report, order="id")
    attempt = {
        "verification_id": "id",
        "ip": "ip::inet",
        "network": "ip",
        "created_at": "at + interval '20 seconds'",
    }
    wrong = "(SELECT * FROM seeded, generate_series(1, 3) WHERE state = 'failed') AS wrong_codes"
    fill("django_flashcall.Attempt", wrong, {**attempt, "counts": "true"}, "i")
    counts = """
        (SELECT date_trunc('hour', at) AS hour, i %% 8 AS part, count(*) AS calls
         FROM seeded WHERE at > now() - interval '2 days' GROUP BY 1, 2) AS counts
    """
    count = {"begins_at": "hour", "part": "part", "calls": "calls"}
    fill("django_flashcall.CallCount", counts, count)


def seed_peers() -> None:
    """Give the other packages a row for each number, as many as they keep themselves."""
    made = {"created_at": "first", "id": "gen_random_uuid()"}
    code = "lpad((n %% 1000000)::text, 6, '0')"
    sms = {
        **made,
        "modified_at": "first",
        "phone_number": "number",
        "security_code": code,
        "session_token": "repeat(md5(number), 4)",
        "is_verified": "verified_at IS NOT NULL",
    }
    fill("phone_verify.SMSVerification", NUMBERS, sms)
    fill("speed.User", NUMBERS, {"mobile": "number", "password": "'!'"})
    token = {
        **made,
        "user_id": 'account."id"',
        "to_alias": "number",
        "to_alias_type": "'MOBILE'",
        "key": code,
        "type": "'AUTH'",
        "is_active": "false",  # at most a million can be active: each key must differ
    }
    accounts = f"{NUMBERS} JOIN speed_user AS account ON account.mobile = number"
    fill("drfpasswordless.CallbackToken", accounts, token)


def fill(label: str, source: str, values: Mapping[str, str], order: str = "") -> None:
    """Insert rows into the table of a model, if there is such a model.

    Args:
        label: the model.
        source: what follows FROM.
        values: column → expression. Other columns get the default of their field.
        order: what follows ORDER BY.
    """
    app, name = label.split(".")
    model = apps.all_models[app].get(name.lower())
    if model is None:
        return
    columns, expressions, defaults = [], [], []
    for field in model._meta.concrete_fields:
        if field.attname in values:
            expressions.append(values[field.attname])
        elif field.primary_key:
            continue
        else:
            expressions.append("%s")
            defaults.append(field.get_db_prep_save(field.get_default(), connection))
        columns.append(f'"{field.column}"')
    sql = f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) '
    sql += f"SELECT {', '.join(expressions)} FROM {source}"
    with connection.cursor() as cursor:
        cursor.execute(sql + (f" ORDER BY {order}" if order else ""), defaults)
