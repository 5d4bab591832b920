"""Fills PostgreSQL with calls, as many as a busy site makes in ninety days, within a minute.

The rows are made by the database itself, in the order in which time would have made them.
"""

from __future__ import annotations

from django.db import connection

PHONES = """
INSERT INTO django_flashcall_phone
    (number, failures, verified_at, last_called_at, created_at)
SELECT CASE WHEN i %% 50 = 0
            THEN '+7701' || lpad(((i::bigint * 7919) %% 10000000)::text, 7, '0')
            ELSE '+79' || lpad(((i::bigint * 7919) %% 1000000000)::text, 9, '0') END,
       0, CASE WHEN i %% 3 > 0 THEN at END, at, at
FROM (SELECT i, now() - interval '90 days' * (1 - i / %(phones)s.0) AS at
      FROM generate_series(1, %(phones)s) AS i) AS rows
ON CONFLICT DO NOTHING
"""

VERIFICATIONS = """
INSERT INTO django_flashcall_verification
    (id, phone_id, purpose, channel, state, code_length, max_attempts, attempts_left, calls_left,
     session, is_known, ip, created_at, expires_at, verified_at)
SELECT md5('verification' || i)::uuid, phone.id,
       CASE WHEN i %% 10 = 0 THEN 'login' ELSE 'signup' END,
       CASE WHEN i %% 12 = 0 THEN 'voice_code' ELSE 'flash_call' END,
       CASE WHEN i %% 3 > 0 THEN 'verified' ELSE 'pending' END,
       4, 3, 2, 2, '', false, ('10.' || i %% 200 || '.' || i %% 250 || '.' || i %% 254)::inet,
       at, at + interval '5 minutes', CASE WHEN i %% 3 > 0 THEN at + interval '40 seconds' END
FROM (SELECT i, now() - interval '90 days' * (1 - i / %(calls)s.0) AS at
      FROM generate_series(1, %(calls)s) AS i) AS rows
JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM django_flashcall_phone) AS phone
    ON phone.n = 1 + i %% %(phones)s * 9 / 10
"""

CALLS = """
INSERT INTO django_flashcall_call
    (verification_id, phone_id, channel, backend, reference, status, error_code, provider_id,
     provider_code, provider_message, must_mend, mcc_mnc, price, code_digest, prefix, country,
     network, wide_network, is_test, is_known, progress, created_at, answered_at)
SELECT verification.id, phone_id, channel,
       CASE WHEN channel = 'voice_code' THEN 'voice' ELSE 'default' END,
       md5('call' || n)::uuid, status,
       CASE status WHEN 'undelivered'
                   THEN (ARRAY['busy', 'absent_subscriber', 'failure'])[1 + n %% 3]
                   WHEN 'rejected' THEN 'invalid_destination' ELSE '' END,
       CASE WHEN status IN ('rejected', 'unknown') THEN '' ELSE (7390000000 + n)::text END,
       CASE WHEN status = 'rejected' THEN 8 END,
       CASE WHEN status = 'rejected' THEN 'destAddr is not correct' ELSE '' END,
       false,
       CASE WHEN status IN ('delivered', 'undelivered')
            THEN (ARRAY['25001', '25002', '25020', '25099', '40102'])[1 + n %% 5] ELSE '' END,
       CASE WHEN status = 'delivered' THEN 0.45 END,
       '', left(number, -4), CASE WHEN number LIKE '+7701%%' THEN 'KZ' ELSE 'RU' END,
       host(ip), '', false, false, CASE WHEN state = 'verified' THEN 2 ELSE 0 END,
       verification.created_at,
       -- Most answers come within a quarter of a second, some take seconds.
       verification.created_at + make_interval(secs => exp(
           -1.4 + 0.6 * sqrt(-2 * ln(random() + 1e-9)) * cos(6.28 * random())))
FROM (SELECT *, CASE WHEN n %% 100 < 72 THEN 'delivered' WHEN n %% 100 < 82 THEN 'undelivered'
                     WHEN n %% 100 < 94 THEN 'sent' WHEN n %% 100 < 98 THEN 'rejected'
                     ELSE 'unknown' END AS status
      FROM (SELECT *, row_number() OVER (ORDER BY created_at) AS n
            FROM django_flashcall_verification) AS numbered) AS verification
JOIN django_flashcall_phone AS phone ON phone.id = phone_id
ORDER BY verification.created_at
"""

REPORTS = """
INSERT INTO django_flashcall_deliveryreport
    (call_id, outcome, error_code, mcc_mnc, price, created_at)
SELECT id, status, error_code, mcc_mnc, price, created_at + interval '10 seconds'
FROM django_flashcall_call WHERE status IN ('delivered', 'undelivered')
"""

ATTEMPTS = """
INSERT INTO django_flashcall_attempt
    (verification_id, counts, ip, network, wide_network, created_at)
SELECT id, true, ip, host(ip), '', created_at + interval '40 seconds'
FROM django_flashcall_verification WHERE verified_at IS NULL
"""


def seed(calls: int) -> None:
    """Make `calls` calls, each of a verification of its own, to 7 phones for each 10 of them."""
    counts = {"calls": calls, "phones": max(1, calls * 7 // 10)}
    with connection.cursor() as cursor:
        for statement in (PHONES, VERIFICATIONS, CALLS, REPORTS, ATTEMPTS):
            cursor.execute(statement, counts)
        cursor.execute("ANALYZE")
