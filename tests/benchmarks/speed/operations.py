"""What is measured: each operation of each package, as HTTP requests that succeed once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from .seed import BUSY_ADDRESS, BUSY_RANGE

OURS, PHONE_VERIFY, PASSWORDLESS = "django-flashcall", "django-phone-verify", "drfpasswordless"
EMPTY = "an empty DRF view"

CODE, WRONG_CODE = "1234", "4321"
LONG_CODE, WRONG_LONG_CODE = "123456", "000000"


class Request(NamedTuple):
    method: str
    path: str
    body: str
    ip: str
    status: int
    """The status that the response must have."""


class Operation(NamedTuple):
    package: str
    name: str
    prepare: Callable[[int], list[Request]]
    """Return so many requests, and store what they need."""
    in_server: bool = False
    """Whether it is measured through a web server, too."""
    repeats: bool = False
    """Whether a request can be sent again and again."""


_places = itertools.count(1)


def visitor() -> tuple[str, str]:
    """Return a number and an address that no request had before."""
    n = next(_places)
    number = f"+79{500_000_000 + n * 7919 % 500_000_000:09d}"
    return number, f"100.{64 + n // 62_500 % 60}.{n // 250 % 250}.{n % 250 + 1}"


def post(path: str, ip: str, status: int = 200, **body: str) -> Request:
    return Request("POST", path, json.dumps(body), ip, status)


# Ours


def start(count: int) -> list[Request]:
    people = (visitor() for _ in range(count))
    return [post("/flashcall/api/verifications/", ip, 201, phone=n) for n, ip in people]


def start_in_busy_range(count: int) -> list[Request]:
    requests = start(count)
    numbers = (f"{BUSY_RANGE}{n % 10_000:04d}" for n in _numbers_of_range)
    return [r._replace(body=json.dumps({"phone": next(numbers)})) for r in requests]


_numbers_of_range = itertools.count()


def start_from_busy_address(count: int) -> list[Request]:
    return [request._replace(ip=BUSY_ADDRESS) for request in start(count)]


def complete_busy_calls() -> None:
    """Complete the calls of the busy range and address: otherwise, the fraud guard would refuse."""
    from django_flashcall.models import Call

    recent = Call.objects.filter(created_at__gt=timezone.now() - timedelta(minutes=10))
    recent.filter(prefix=BUSY_RANGE).update(progress=Call.Progress.COMPLETED)
    recent.filter(network=BUSY_ADDRESS).update(progress=Call.Progress.COMPLETED)


def check(code: str, status: int) -> Callable[[int], list[Request]]:
    def prepare(count: int) -> list[Request]:
        path = "/flashcall/api/verifications/{}/check/"
        calls = called(count)
        return [post(path.format(c.verification_id), c.network, status, code=code) for c in calls]

    return prepare


def show(count: int) -> list[Request]:
    path = "/flashcall/api/verifications/{}/"
    return [
        Request("GET", path.format(call.verification_id), "", call.network, 200)
        for call in called(count)
    ]


def report(count: int) -> list[Request]:
    path = f"/flashcall/delivery-reports/default/{settings.REPORT_SECRET}/"
    answer = {"status": 2, "mccMnc": "25001", "messagePrice": 0.45, "type": "FLASHINGCALL"}
    return [
        Request("POST", path, json.dumps({"id": call.reference.hex, **answer}), call.network, 200)
        for call in called(count)
    ]


def called(count: int) -> list[Any]:
    """Store verifications whose call was placed; return the calls."""
    from django_flashcall import phones
    from django_flashcall.models import Call, Phone, Verification
    from django_flashcall.verification import codes

    now = timezone.now()
    people = [visitor() for _ in range(count)]
    rows = Phone.objects.bulk_create(Phone(number=n, last_called_at=now) for n, _ in people)
    verifications = Verification.objects.bulk_create(
        Verification(
            phone=phone,
            purpose="signup",
            channel="flash_call",
            code_length=len(CODE),
            max_attempts=3,
            attempts_left=3,
            calls_left=2,
            ip=ip,
            created_at=now,
            expires_at=now + timedelta(hours=1),
        )
        for phone, (_, ip) in zip(rows, people, strict=True)
    )
    return Call.objects.bulk_create(
        Call(
            verification=verification,
            phone=verification.phone,
            channel="flash_call",
            backend="default",
            status="sent",
            code_digest=codes.digest(CODE, verification.pk),
            prefix=phones.prefix(verification.phone.number),
            country="RU",
            network=verification.ip or "",
            created_at=now,
            answered_at=now,
        )
        for verification in verifications
    )


# django-phone-verify


def register(count: int) -> list[Request]:
    people = (visitor() for _ in range(count))
    return [post("/phone-verify/phone/register", ip, phone_number=n) for n, ip in people]


def verify(code: str, status: int) -> Callable[[int], list[Request]]:
    def prepare(count: int) -> list[Request]:
        from phone_verify.models import SMSVerification

        from .senders import DiscardingSMS

        people = [visitor() for _ in range(count)]
        tokens = [DiscardingSMS.generate_session_token(n) for n, _ in people]
        SMSVerification.objects.bulk_create(
            SMSVerification(phone_number=n, security_code=LONG_CODE, session_token=token)
            for (n, _), token in zip(people, tokens, strict=True)
        )
        return [
            Request(
                "POST",
                "/phone-verify/phone/verify",
                json.dumps({"phone_number": n, "session_token": token, "security_code": code}),
                ip,
                status,
            )
            for (n, ip), token in zip(people, tokens, strict=True)
        ]

    return prepare


# drfpasswordless


def ask_for_token(count: int) -> list[Request]:
    people = (visitor() for _ in range(count))
    return [post("/passwordless/auth/mobile/", ip, mobile=n) for n, ip in people]


def log_in(*, right: bool) -> Callable[[int], list[Request]]:
    def prepare(count: int) -> list[Request]:
        from drfpasswordless.models import CallbackToken

        from .models import User

        people = [visitor() for _ in range(count)]
        keys = list(itertools.islice(_free_keys(), count))
        users = User.objects.bulk_create(User(mobile=n, password="!") for n, _ in people)
        CallbackToken.objects.bulk_create(
            CallbackToken(
                user=user, key=key, to_alias=user.mobile, to_alias_type="MOBILE", type="AUTH"
            )
            for user, key in zip(users, keys, strict=True)
        )
        sent = keys if right else [WRONG_LONG_CODE] * count
        return [
            post("/passwordless/auth/token/", ip, 200 if right else 400, mobile=n, token=key)
            for (n, ip), key in zip(people, sent, strict=True)
        ]

    return prepare


def _free_keys() -> Iterator[str]:
    """Yield keys that no active token has: the package wants them to differ."""
    from drfpasswordless.models import CallbackToken

    taken = set(CallbackToken.objects.active().values_list("key", flat=True))
    return (key for n in range(1, 10**6) if (key := f"{n:06d}") not in taken)


def nothing(count: int) -> list[Request]:
    people = (visitor() for _ in range(count))
    return [post("/empty/", ip, phone=n) for n, ip in people]


OPERATIONS = [
    Operation(EMPTY, "nothing", nothing, in_server=True, repeats=True),
    Operation(OURS, "start", start, in_server=True),
    Operation(PHONE_VERIFY, "start", register, in_server=True),
    Operation(PASSWORDLESS, "start", ask_for_token, in_server=True),
    Operation(OURS, "start in the busy range", start_in_busy_range),
    Operation(OURS, "start from the busy address", start_from_busy_address),
    Operation(OURS, "right code", check(CODE, 200), in_server=True),
    Operation(PHONE_VERIFY, "right code", verify(LONG_CODE, 200), in_server=True),
    Operation(PASSWORDLESS, "right code", log_in(right=True), in_server=True),
    Operation(OURS, "wrong code", check(WRONG_CODE, 400), in_server=True),
    Operation(PHONE_VERIFY, "wrong code", verify(WRONG_LONG_CODE, 400), in_server=True),
    Operation(PASSWORDLESS, "wrong code", log_in(right=False), in_server=True),
    Operation(OURS, "status", show, in_server=True, repeats=True),
    Operation(OURS, "delivery report", report, in_server=True),
]

MOST_FOR_PEERS = 1_000_000
"""Above that, a request of the other packages takes a second or more."""


def too_slow(calls: int) -> list[Operation]:
    """Return what takes too long for many requests, with so many calls stored."""
    peers = [each for each in OPERATIONS if each.package not in (OURS, EMPTY)]
    return peers if calls > MOST_FOR_PEERS else []


DEFAULTS_OF = ("start", "right code")
"""What is measured with Django's default options of PostgreSQL, too."""
