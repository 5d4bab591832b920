"""Base class of HTTP backends: session, timeouts, retries, error handling.

A backend implements two methods: `HTTPBackend.wire_request` returns the request, and
`HTTPBackend.judge` translates the response. The base class does the rest. It distinguishes a
request that was never sent, so that no call was placed, from one that was lost after it was sent.
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
"""Seconds to connect to one address of the provider: enough for two lost SYN packets."""

TIMEOUT = 10.0
"""Seconds in total, including retries; the visitor waits this long at the form."""

LONGEST_TIMEOUT = 15.0
"""Maximum for ``timeout`` in seconds: nobody waits longer for one provider."""

RETRIES = 2
POOL_SIZE = 10

ANSWER_BYTES = 64 * 1024
"""Maximum size of a response; those of the provider have about a hundred bytes."""

BACKOFF = 0.25
"""Maximum pause before the first retry, in seconds; doubled for each further one."""

USEFUL_SECONDS = 0.5
"""Minimum time left for a retry: a shorter one would be cut off with an unknown outcome."""

PERMANENT_ERRORS = (
    ssl.SSLCertVerificationError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    UnicodeError,
)
"""Connection errors that a retry cannot fix: the certificate, the URL, the proxy's URL."""

logger = logging.getLogger("django_flashcall.backends")

_sleep = time.sleep


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. The body may echo our secrets, so ``repr`` does not show it.

    Attributes:
        status: the HTTP status.
        body: None if it is longer than `ANSWER_BYTES` or was lost.
    """

    status: int
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was not sent. `permanent` is True if an administrator has to fix the cause."""

    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The request was sent, or may have been, but no response came."""

    reason: str


class Verdict(NamedTuple):
    """The result of an attempt, and whether a retry may help without causing a second call."""

    outcome: Receipt | ProviderError
    ask_again: bool = False


class HTTPBackend(BaseBackend):
    """Base class of HTTP backends, with a connection pool for all threads.

    Args:
        alias: the alias in ``BACKENDS``.
        url: the provider's URL, ``https://…``.
        connect_timeout: seconds for one attempt to connect to one address.
        timeout: seconds in total, including retries and pauses.
        retries: maximum number of retries; none is made that could ring the phone twice.
        duplicate_control: True if the provider drops duplicates; lost responses are then retried.
        pool_size: connections to keep open; more are created when needed and closed after use.
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
        """Close idle connections; those in use are closed after their response."""
        self._session.close()

    def wire_request(self, call: CallRequest) -> requests.Request:
        """Return the HTTP request for a call; it must be the same for every retry.

        Do not assign anything secret to a variable: a traceback would show it.
        """
        raise NotImplementedError

    def judge(self, answer: Answer, call: CallRequest, *, repeated: bool) -> Verdict:
        """Translate a response. It must not raise, whatever the response.

        Args:
            answer: the response.
            call: the requested call; its code must not appear in a description.
            repeated: True if an earlier attempt was sent, so that the provider may know the call.
        """
        raise NotImplementedError

    def place_call(self, request: CallRequest) -> Receipt:
        """Ask the provider for one call, within `timeout` seconds in total.

        Raises:
            Misconfigured: the certificate or the URL is wrong, or the provider says so.
            TemporaryFailure: there is no connection; ``may_have_been_placed`` is then False.
            UnknownOutcome: there is no valid response.
            ProviderError: the provider returned another error.
        """
        outcome = self._ask(request)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    def _ask(self, call: CallRequest) -> Receipt | ProviderError:
        """Ask until the result is final, or no retries or time are left."""
        deadline = time.monotonic() + self.timeout
        failure: ProviderError | None = None
        repeated = False
        attempt = 0
        while True:
            answer = self._exchange(call, deadline)
            outcome, ask_again = self._verdict(answer, call, repeated=repeated)
            if isinstance(outcome, Receipt):
                return outcome
            # If an earlier attempt may have placed a call, a later rejection does not change that.
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
        """Send the request and read the response; the result contains no object of `requests`.

        It raises nothing: the exceptions of `requests` contain the request, and with it the code.
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
                reason = _describe(causes[-1])
                if exchange.left:
                    return Lost(reason)
                return NotSent(reason, any(isinstance(cause, PERMANENT_ERRORS) for cause in causes))

    def _verdict(
        self, answer: Answer | NotSent | Lost, call: CallRequest, *, repeated: bool
    ) -> Verdict:
        match answer:
            case NotSent(reason, permanent=True):
                return Verdict(Misconfigured(f"No connection: {reason}"))
            case NotSent(reason):
                return Verdict(TemporaryFailure(f"No connection: {reason}"), ask_again=True)
            case Lost(reason):
                return Verdict(UnknownOutcome(f"No answer: {reason}"), self.duplicate_control)
            case Answer():
                return self.judge(answer, call, repeated=repeated)

    @classmethod
    def check_values(cls, alias: str, options: Mapping[str, Any]) -> list[checks.CheckMessage]:
        """Check every option against its rule."""
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
        """Require ``https://``, unless the provider is on this machine."""
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
    """Return the raw body of a response; None if it is too long."""
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


def _describe(error: BaseException) -> str:
    """Describe a low-level error without any text from the other side."""
    words = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
