"""The OpenAPI schema: the file is what is generated, and the API does what it says."""

import io
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import schemathesis
import yaml
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.authtoken.models import Token
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from django_flashcall import services
from django_flashcall.models import Phone, Verification
from django_flashcall.rest_framework.exceptions import OUR_CODES

FILE = Path(__file__).parent.parent / "docs" / "openapi.yaml"
SCHEMA = yaml.safe_load(FILE.read_text())
OPERATIONS = [(path, method.upper()) for path, item in SCHEMA["paths"].items() for method in item]

EXAMPLES = 25
"""Requests of each kind to each operation."""

CHECKS = [
    status_code_conformance,  # 500 is no status of the schema
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_the_file_is_what_is_generated():
    out = io.StringIO()
    call_command(
        "spectacular",
        urlconf="django_flashcall.rest_framework.urls",
        validate=True,
        fail_on_warn=True,
        stdout=out,
    )
    assert FILE.read_text() == out.getvalue(), "Run `make schema`."


def test_every_endpoint_is_described():
    routes = get_resolver("django_flashcall.rest_framework.urls").url_patterns
    described = {
        (path.removeprefix("/").replace("{id}", "<uuid:id>"), method) for path, method in OPERATIONS
    }
    wanted = {
        (str(route.pattern), method)
        for route in routes
        for method in route.callback.cls().allowed_methods
        if method != "OPTIONS"
    }
    assert described == wanted


def test_every_error_code_is_described():
    missing = [code for code in OUR_CODES if f"`{code}`" not in FILE.read_text()]
    assert missing == []


def test_signup_has_the_fields_of_the_site(configure):
    configure(USER_PHONE_FIELD="username")
    found = SchemaGenerator(urlconf="django_flashcall.rest_framework.urls").get_schema(public=True)
    fields = found["components"]["schemas"]["FlashcallSignup"]["properties"]
    assert set(fields) == {"phone_token", "email", "password"}


def test_nothing_needs_drf_spectacular():
    script = """
import sys
sys.modules["drf_spectacular"] = None  # importing it is an ImportError
import os, django
from tests import settings
settings.INSTALLED_APPS.remove("drf_spectacular")
del settings.REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"]
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
from django.urls import resolve
print(resolve("/api/signup/").func.cls.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=FILE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "SignupView\n", done.stderr


@pytest.fixture
def verifications(provider, configure, django_user_model):
    """Ids of verifications in every state, after which nothing limits calls."""
    configure(
        COOLDOWN=0,
        CALLS_PER_PHONE="1000000/day",
        MAX_CALLS=10,
        CALLS_PER_IP=None,
        CALLS_PER_PREFIX=None,
        CALLS_TOTAL=None,
        FRAUD_GUARD="off",
    )
    started = [services.start(f"+791612345{n:02}") for n in range(6)]
    _, cancelled, verified, spent, expired, others = started
    services.cancel(cancelled)
    services.check(verified, provider.last_call(verified.phone.number).code)
    Verification.objects.filter(pk=spent.pk).update(attempts_left=0)
    Verification.objects.filter(pk=expired.pk).update(
        expires_at=expired.created_at - timedelta(minutes=1)
    )
    user = django_user_model.objects.create_user(username="ann")
    Verification.objects.filter(pk=others.pk).update(user=user)
    return [str(verification.pk) for verification in started]


@pytest.fixture
def application():
    """The site as a server runs it, in the transaction of the test."""
    closing = [(request_started, reset_queries)]
    closing += [(signal, close_old_connections) for signal in (request_started, request_finished)]
    for signal, receiver in closing:
        signal.disconnect(receiver)
    yield get_wsgi_application()
    for signal, receiver in closing:
        signal.connect(receiver)


# Numbers that are called, that make the provider refuse in its ways, and that are never called.
NUMBERS = st.sampled_from(
    [f"+7916123{ending}" for ending in (4567, 9900, 9901, 9906, 9908, 9910, 9921)]
    + ["+79991112233", "+442071838750", "1"]
)


@pytest.fixture
def token_of_ann(verifications, django_user_model):
    """DRF's token of a user who has a number."""
    ann = django_user_model.objects.get(username="ann")
    Phone.objects.create(number="+79167654321", owner=ann)
    return Token.objects.create(user=ann).key


# These take nothing that could be wrong.
WITHOUT_INPUT = [("/phone/", "GET"), ("/phone/", "DELETE"), ("/challenge/", "GET")]
CASES = [
    (*operation, mode)
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode.is_positive or operation not in WITHOUT_INPUT
]


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_the_api_does_as_it_says(verifications, token_of_ann, application, path, method, mode):
    schema = schemathesis.openapi.from_dict(SCHEMA)
    schema.config.update(base_url="http://testserver/api")
    schema.app = application
    # Without an id there is no such URL, and the site's own page says so.
    ids = st.sampled_from(verifications) | st.uuids().map(str)
    cases = schema[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, ids, NUMBERS | st.none(), st.booleans())
    def ask(case, id, number, logged_in):
        if logged_in and path == "/phone/":
            case.headers["Authorization"] = f"Token {token_of_ann}"
        if "{id}" in path:
            case.path_parameters["id"] = id
        if number and isinstance(case.body, dict) and "phone" in case.body:
            case.body["phone"] = number
        case.validate_response(case.call(), checks=CHECKS)

    ask()
