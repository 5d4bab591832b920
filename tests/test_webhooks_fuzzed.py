"""Ten thousand bodies at the address for delivery reports, and no error of ours."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_flashcall import services
from django_flashcall.webhooks import DeliveryReportView

pytestmark = pytest.mark.django_db

NUMBER = "+79161234567"
SECRET = "s" * 32


@pytest.fixture
def call(provider, configure):
    configure(DELIVERY_REPORT_SECRETS=[SECRET])
    return services.start(NUMBER).newest_call


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.sampled_from(
        [0, 2, 5, 9, "0", "2", "5", "013", "25012", "FLASHINGCALL", "", "\x00", "\ud800"]
    ),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)
NAMES = ["id", "mtNum", "status", "type", "doneDate", "submitDate", "text", "errorCode", "mccMnc"]
NAMES += ["messagePrice", "segmentPrice"]
BODIES = st.one_of(
    st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, VALUES))
    .map(json.dumps)
    .map(str.encode),
    st.fixed_dictionaries(
        {"mtNum": st.sampled_from(["KNOWN", "1"]), "status": st.sampled_from([0, 2, 5, "2", 9, 7])},
        optional=dict.fromkeys(NAMES[3:], VALUES),
    )
    .map(json.dumps)
    .map(str.encode),
    st.binary(max_size=40),
)


@settings(
    max_examples=10_000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)
@given(content=BODIES)
def test_ten_thousand_bodies(call, rf, content):
    """Whatever comes, the answer is 200 or 400."""
    content = content.replace(b"KNOWN", call.provider_id.encode())
    request = rf.post("/", content, content_type="application/json")
    response = DeliveryReportView.as_view()(request, alias="default", secret=SECRET)
    assert response.status_code in (200, 400)
