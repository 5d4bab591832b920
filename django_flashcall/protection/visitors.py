"""Identify the visitor of a request by IP address and session."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import threading
from typing import NamedTuple

from django.http import HttpRequest

from ..conf import conf

logger = logging.getLogger("django_flashcall")

SESSION_KEY = "django_flashcall"
"""Key in the session of the random value that its verifications belong to."""


class Source(NamedTuple):
    """The source of a request, as the limits count it; empty if it is not known.

    Attributes:
        network: an IPv4 address, or the /64 that an IPv6 subscriber has at least (RFC 6177).
        wide_network: its /48, which a subscriber can have; empty for IPv4.
        is_known: the visitor is the logged-in owner of the number, or verified it before on this
            device. They have calls and attempts of their own.
    """

    network: str = ""
    wide_network: str = ""
    is_known: bool = False


def client_ip(request: HttpRequest) -> str | None:
    """Return the IP address of the client, or None if it is not known.

    ``TRUSTED_PROXIES`` is the number of entries at the end of ``X-Forwarded-For`` that the site's
    own proxies wrote. Entries before them can be forged and are ignored.
    """
    candidates = [request.META.get("REMOTE_ADDR", "")]
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if proxies := conf.TRUSTED_PROXIES:
        entries = forwarded.split(",")
        if len(entries) >= proxies:
            candidates.insert(0, entries[-proxies])
    elif forwarded:
        _suspect_proxy(candidates[0])
    for candidate in candidates:
        if address := parse_address(candidate):
            return str(address)
    return None


def session_value(request: HttpRequest) -> str | None:
    """Return the value that verifications of this session have, or None."""
    session = getattr(request, "session", None)
    return None if session is None else session.get(SESSION_KEY)


def bind_session(request: HttpRequest, *, anew: bool = False) -> str:
    """Return the value that verifications of this session get; create it if needed.

    Args:
        request: a request with a session.
        anew: create a new value, so that nobody can continue the earlier verifications.
    """
    value = None if anew else session_value(request)
    if value is None:
        value = request.session[SESSION_KEY] = secrets.token_urlsafe(16)
    return value


def source(ip: str | None) -> Source:
    """Return the source for an IP address. IPv6 is counted by network: addresses change."""
    address = parse_address(ip)
    if address is None:
        return Source()
    if address.version == 4:
        return Source(str(address))
    near, wide = (ipaddress.ip_network((address, bits), strict=False) for bits in (64, 48))
    return Source(str(near), str(wide))


_suspected = threading.Event()


def _suspect_proxy(remote: str) -> None:
    """Log once that ``TRUSTED_PROXIES`` seems to be missing."""
    address = parse_address(remote)
    if address is None or not address.is_private or _suspected.is_set():
        return
    _suspected.set()
    logger.error(
        "X-Forwarded-For comes from the private address %s, but TRUSTED_PROXIES is 0: all visitors "
        "share the limits of one address. Set it to the number of proxies in front of the site.",
        address,
    )


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str | None) -> Address | None:
    """Parse an address in any form that proxies write: with a port, in brackets, IPv4-mapped."""
    text = (text or "").strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
