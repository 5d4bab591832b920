"""A body that is announced as too large is refused before it comes: no worker waits for it."""

import socket
from urllib.parse import urlsplit

import pytest
from django.urls import reverse

SECRET = "s" * 32
TOO_MUCH = 64 * 1024 + 1


def announce(live_server, path, length):
    """Send a request without its body; return the status that is answered meanwhile."""
    address = urlsplit(live_server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        return connection.makefile("rb").readline().split()[1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("length", [TOO_MUCH, 10**12])
def test_the_api_answers_at_once(live_server, length):
    assert announce(live_server, "/api/verifications/", length) == b"413"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("length", [TOO_MUCH, 10**12])
def test_the_webhook_answers_at_once(live_server, provider, configure, length):
    configure(DELIVERY_REPORT_SECRETS=[SECRET])
    path = reverse("django_flashcall:delivery-report", args=["default", SECRET])
    assert announce(live_server, path, length) == b"413"


@pytest.mark.parametrize("length", ["", "-1", "many", "9" * 5000])
def test_any_announcement_has_an_answer(client, length):
    path = "/api/verifications/"
    response = client.post(path, b"{}", content_type="application/json", CONTENT_LENGTH=length)
    assert response.status_code in (400, 413)
