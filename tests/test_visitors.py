import threading

import pytest
from django.test import RequestFactory

from django_flashcall.protection import visitors


def request(remote="10.0.0.1", forwarded=None):
    extra = {"REMOTE_ADDR": remote}
    if forwarded is not None:
        extra["HTTP_X_FORWARDED_FOR"] = forwarded
    return RequestFactory().get("/", **extra)


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "ip"),
    [
        (0, "198.51.100.7", None, "198.51.100.7"),
        (0, "198.51.100.7", "203.0.113.1", "198.51.100.7"),
        (1, "10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (1, "10.0.0.1", "6.6.6.6, 203.0.113.1", "203.0.113.1"),
        (2, "10.0.0.1", "6.6.6.6, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        (2, "10.0.0.1", "203.0.113.1", "10.0.0.1"),
        (1, "10.0.0.1", None, "10.0.0.1"),
        (1, "10.0.0.1", "nonsense", "10.0.0.1"),
        (1, "10.0.0.1", "203.0.113.1:5678", "203.0.113.1"),
        (1, "10.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        (1, "10.0.0.1", "fe80::1%eth0", "fe80::1"),
        (1, "10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
        (0, "", None, None),
        (0, "unix:", None, None),
    ],
)
def test_only_our_own_proxies_are_believed(settings, proxies, remote, forwarded, ip):
    settings.FLASHCALL = {**settings.FLASHCALL, "TRUSTED_PROXIES": proxies}
    assert visitors.client_ip(request(remote, forwarded)) == ip


@pytest.mark.parametrize(
    ("ip", "source"),
    [
        ("203.0.113.9", ("203.0.113.9", "")),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("::ffff:203.0.113.9", ("203.0.113.9", "")),
        (None, ("", "")),
        ("nonsense", ("", "")),
    ],
)
def test_a_visitor_is_an_address_or_a_network(ip, source):
    assert visitors.source(ip) == (*source, False)


def test_a_forgotten_proxy_is_told_of_once(monkeypatch, caplog):
    monkeypatch.setattr(visitors, "_suspected", threading.Event())
    visitors.client_ip(request("8.8.8.8", "203.0.113.1"))  # anyone can send the header
    assert not caplog.records
    for _ in range(3):
        assert visitors.client_ip(request("10.0.0.1", "203.0.113.1")) == "10.0.0.1"
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "TRUSTED_PROXIES" in record.message


def test_sessions_are_bound_by_a_random_value():
    asked = request()
    assert visitors.session_value(asked) is None
    asked.session = {}
    value = visitors.bind_session(asked)
    assert len(value) >= 22
    assert visitors.bind_session(asked) == value == visitors.session_value(asked)
    assert visitors.bind_session(asked, anew=True) != value
