"""The base of backends whose provider speaks HTTP: one session, time-outs, retries, translation.

A provider is two hooks: `HTTPBackend.wire_request` says what to send, `HTTPBackend.judge` what an
answer means. Everything between them is here, above all the difference between a request that
never left and one that was lost after it left: only the former is certainly no call.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import requests
from django.core import checks

from ..exceptions import Misconfigured, ProviderError, TemporaryFailure, UnknownOutcome
from .base import BaseBackend, CallRequest, Receipt
from .connections import Exchange, Session
from .options import Rule, is_local, is_seconds, is_url, is_verification, is_whole

__all__ = ["Answer", "HTTPBackend", "Verdict"]

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection to one address of the provider: two lost SYN packets are survived."""

TIMEOUT = 10.0
"""Seconds for everything, retries included, that a person waits at the form."""

LONGEST_TIMEOUT = 15.0
"""Seconds beyond which nobody waits at a form."""

RETRIES = 2
POOL_SIZE = 10

ANSWER_BYTES = 64 * 1024
"""The longest answer that is read; the provider's are a hundred bytes."""

BACKOFF = 0.25
"""Seconds of the longest pause before the first retry; doubled by each further one."""

USEFUL_SECONDS = 0.5
"""A retry with less than this left would only be cut off, and then nobody knows what it did."""

MENDABLE = (
    ssl.SSLCertVerificationError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    UnicodeError,
)
"""Why there is no connection, where later is no better: a certificate, the URL, a proxy's URL."""

logger = logging.getLogger("django_flashcall.backends")

_sleep = time.sleep


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The body may echo our secrets, so that no ``repr`` shows it.

    Attributes:
        status: the HTTP status.
        body: None where it is longer than `ANSWER_BYTES` or was lost on the way.
    """

    status: int
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left: no connection. `mendable` where the site's operator has to act."""

    reason: str
    mendable: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The request left, or may have, and no answer came."""

    reason: str


class Verdict(NamedTuple):
    """What an attempt came to, and whether asking again may help without a second call."""

    outcome: Receipt | ProviderError
    ask_again: bool = False


class HTTPBackend(BaseBackend):
    """Base class of backends over HTTP; keeps a pool of connections for all threads.

    Args:
        alias: the alias in ``BACKENDS``.
        url: the provider's URL, ``https://…``.
        connect_timeout: seconds for one attempt to connect to one address.
        timeout: seconds for everything, retries and pauses included.
        retries: how often to ask again where that cannot ring the phone twice.
        duplicate_control: the provider drops repeats, so that a lost answer may be asked again.
        pool_size: connections kept open; more are made when needed and not kept.
        verify: True, or the path of a bundle of CA certificates.
    """

    option_rules: ClassVar[Mapping[str, Rule]] = {
        "url": Rule(is_url, "an http(s) URL with a host, without user and password"),
        "connect_timeout": Rule(
            is_seconds(LONGEST_TIMEOUT), "a positive number of seconds, not above timeout"
        ),
        "timeout": Rule(
            is_seconds(LONGEST_TIMEOUT),
            f"a positive number of seconds, at most {LONGEST_TIMEOUT:g}",
        ),
        "retries": Rule(is_whole(0, 5), "a whole number from 0 to 5"),
        "duplicate_control": Rule(lambda value: isinstance(value, bool), "True or False"),
        "pool_size": Rule(is_whole(1), "a whole number, 1 or more"),
        "verify": Rule(is_verification, "True, or the path of CA certificates; never False"),
    }

    def __init__(
        self,
        alias: str,
        *,
        url: str,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        duplicate_control: bool = False,
        pool_size: int = POOL_SIZE,
        verify: bool | str = True,
    ) -> None:
        super().__init__(alias)
        self.url = url
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self.retries = retries
        self.duplicate_control = duplicate_control
        self._session = Session(pool_size, verify)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r} at {urlsplit(self.url).hostname}>"

    def close(self) -> None:
        """Close the connections that wait; those in use are closed after their answer."""
        self._session.close()

    def wire_request(self, call: CallRequest) -> requests.Request:
        """Return the HTTP request for a call; the same at every retry.

        Bind nothing with a secret in it to a name: a traceback would show it.
        """
        raise NotImplementedError

    def judge(self, answer: Answer, call: CallRequest, *, repeated: bool) -> Verdict:
        """Say what an answer means. Never raises, whatever the answer.

        Args:
            answer: what came back.
            call: what was asked for; its code must not get into a description.
            repeated: an earlier attempt for this call left, so that the provider may know it.
        """
        raise NotImplementedError

    def place_call(self, request: CallRequest) -> Receipt:
        """Ask the provider for one call, within `timeout` seconds in all.

        Raises:
            Misconfigured: the provider's certificate or the URL is wrong, or the provider says so.
            TemporaryFailure: no connection, ``may_have_been_placed`` is False then.
            UnknownOutcome: no answer, or none that makes sense.
            ProviderError: whatever else the provider's error is translated to.
        """
        outcome = self._ask(request)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    def _ask(self, call: CallRequest) -> Receipt | ProviderError:
        """Ask until something final is known, or retries or time are used up."""
        deadline = time.monotonic() + self.timeout
        failure: ProviderError | None = None
        repeated = False
        attempt = 0
        while True:
            answer = self._exchange(call, deadline)
            outcome, ask_again = self._verdict(answer, call, repeated=repeated)
            if isinstance(outcome, Receipt):
                return outcome
            # Once a call may have been placed, no later rejection takes that back.
            if failure is None or not failure.may_have_been_placed:
                failure = outcome
            pause = random.uniform(0, BACKOFF * 2**attempt)  # noqa: S311 - jitter is no secret
            in_time = time.monotonic() + pause + USEFUL_SECONDS < deadline
            if not (ask_again and attempt < self.retries and in_time):
                return failure
            kind = type(outcome).__name__
            logger.info("Call %s by %r: %s, asking again.", call.reference, self.alias, kind)
            _sleep(pause)
            repeated = repeated or not isinstance(answer, NotSent)
            attempt += 1

    def _exchange(self, call: CallRequest, deadline: float) -> Answer | NotSent | Lost:
        """Send the request and read the answer; the outcome holds nothing of `requests`.

        Every exception ends here: those of `requests` carry the request, and with it the code.
        """
        wire = self.wire_request(call)
        status: int | None = None
        with Exchange(deadline, self.connect_timeout) as exchange:
            try:
                with self._session.ask(wire, exchange) as response:
                    status = response.status_code
                    return Answer(status, _body(response))
            except Exception as error:
                if status is not None:
                    return Answer(status, None)
                causes = list(_causes(error))
                reason = _words(causes[-1])
                if exchange.left:
                    return Lost(reason)
                return NotSent(reason, any(isinstance(cause, MENDABLE) for cause in causes))

    def _verdict(
        self, answer: Answer | NotSent | Lost, call: CallRequest, *, repeated: bool
    ) -> Verdict:
        match answer:
            case NotSent(reason, mendable=True):
                return Verdict(Misconfigured(f"No connection: {reason}"))
            case NotSent(reason):
                return Verdict(TemporaryFailure(f"No connection: {reason}"), ask_again=True)
            case Lost(reason):
                return Verdict(UnknownOutcome(f"No answer: {reason}"), self.duplicate_control)
            case Answer():
                return self.judge(answer, call, repeated=repeated)

    @classmethod
    def check_values(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Hold every option against its rule."""
        wrong = [
            name
            for name, rule in cls.option_rules.items()
            if name in options and not rule.holds(options[name])
        ]
        if not wrong and options.get("connect_timeout", 0) > options.get("timeout", TIMEOUT):
            wrong = ["connect_timeout"]
        return [cls.option_rules[name].broken(alias, name) for name in wrong]

    @classmethod
    def check_deployment(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Ask for ``https://`` wherever the provider is not this machine."""
        url = options.get("url")
        if not isinstance(url, str) or urlsplit(url).scheme != "http" or is_local(url):
            return []
        return [
            checks.Error(
                f"FLASHCALL: backend {alias!r} sends its password and the codes unencrypted.",
                hint="Use the https:// URL of the provider.",
                id="django_flashcall.E016",
            )
        ]


def _body(response: requests.Response) -> bytes | None:
    """Read the body of an answer as it is on the wire; None where it is too long."""
    body = b""
    if (response.raw.length_remaining or 0) > ANSWER_BYTES:
        return None
    while piece := response.raw.read(ANSWER_BYTES + 1 - len(body), decode_content=False):
        body += piece
        if len(body) > ANSWER_BYTES:
            return None
    return body


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """Say what went wrong below `requests`, without the words of the other side."""
    words = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
