"""Visitors: whose request it is, by address and by session."""

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
"""Where a session keeps the random value that ties verifications to it."""


class Source(NamedTuple):
    """Where a request comes from, as the limits count it; empty where it is not known.

    Attributes:
        network: an IPv4 address, or the /64 that an IPv6 subscriber holds at least (RFC 6177).
        wide_network: the /48 around it, that a subscriber may hold; empty for IPv4.
    """

    network: str = ""
    wide_network: str = ""


def client_ip(request: HttpRequest) -> str | None:
    """Return the address of the client that made a request, or None where it cannot be known.

    ``TRUSTED_PROXIES`` says how many entries at the end of ``X-Forwarded-For`` proxies of the site
    wrote; what stands before them anyone can make up, and is not believed.
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
        if address := _address(candidate):
            return str(address)
    return None


def session_value(request: HttpRequest) -> str | None:
    """Return the value that ties verifications to the session of a request, or None without one."""
    session = getattr(request, "session", None)
    return None if session is None else session.get(SESSION_KEY)


def bind_session(request: HttpRequest, *, anew: bool = False) -> str:
    """Return the value that ties verifications to the session, made where there is none.

    Args:
        request: a request with a session.
        anew: make another value, so that what was started before belongs to nobody any more.
    """
    value = None if anew else session_value(request)
    if value is None:
        value = request.session[SESSION_KEY] = secrets.token_urlsafe(16)
    return value


def source(ip: str | None) -> Source:
    """Return what an address counts as: single IPv6 addresses are free to change."""
    address = _address(ip or "")
    if address is None:
        return Source()
    if address.version == 4:
        return Source(str(address))
    near, wide = (ipaddress.ip_network((address, bits), strict=False) for bits in (64, 48))
    return Source(str(near), str(wide))


_suspected = threading.Event()


def _suspect_proxy(remote: str) -> None:
    """Say once that a proxy of the site seems to be forgotten: all visitors share its address."""
    address = _address(remote)
    if address is None or not address.is_private or _suspected.is_set():
        return
    _suspected.set()
    logger.error(
        "X-Forwarded-For comes from the private address %s, but TRUSTED_PROXIES is 0: all visitors "
        "share the limits of one address. Set it to the number of proxies before the site.",
        address,
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address as proxies write it: with a port, in brackets, or IPv4 within IPv6."""
    text = text.strip()
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
