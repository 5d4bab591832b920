"""Helpers for the cases of the contract, and the hooks that a subclass implements."""

from __future__ import annotations

import logging
import re
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase

from ..backends import BaseBackend, CallRequest, Receipt, Report, WebhookRequest
from ..conf import FLASH_CALL
from ..delivery.reasons import REASONS
from ..exceptions import ProviderError, UnknownOutcome
from ..redaction import Secret
from .situations import REJECTIONS, PlacedCall, Situation

OUTCOMES = ("sent", "delivered", "undelivered")


@dataclass(frozen=True)
class Placing:
    """The result of one `place_call`."""

    request: CallRequest
    outcome: Receipt | ProviderError
    logged: str = field(repr=False)


class Steps(SimpleTestCase):
    """The hooks of `BackendContract`, and helpers for its cases."""

    __test__ = False

    backend_class: ClassVar[type[BaseBackend]]
    """The class under test."""

    situations: ClassVar[frozenset[Situation]] = frozenset(Situation)
    """The situations that this provider can have. Leave out only those that are impossible."""

    channel: ClassVar[str] = FLASH_CALL
    """The channel to test; write another subclass for another channel."""

    code_lengths: ClassVar[Sequence[int]] = (4,)
    """Lengths of codes that the provider supports."""

    phone: ClassVar[str] = "+79161234567"
    """A number that the provider accepts; the cases vary its last two digits."""

    report_outcomes: ClassVar[Sequence[str]] = OUTCOMES
    """Outcomes in the provider's delivery reports."""

    drops_repeats: ClassVar[bool] = False
    """True if the provider answers a repeated reference as before, without ringing again."""

    # Hooks for the subclass

    def options(self) -> dict[str, Any]:
        """Return ``OPTIONS`` of the backend, valid after the last call of `prepare`.

        Values of `secret_options` need eight characters or more: the cases search outputs for them.
        """
        return {}

    def prepare(self, situation: Situation, request: CallRequest) -> None:
        """Tell the provider what to do next, and delete its recorded calls.

        Args:
            situation: one of `situations`.
            request: the next request, which the provider repeats for `Situation.ECHO`.
        """
        raise NotImplementedError

    def placed(self) -> Sequence[PlacedCall]:
        """Return the calls placed since `prepare`, oldest first."""
        raise NotImplementedError

    def report(self, call: PlacedCall, outcome: str) -> WebhookRequest:
        """Return the provider's request that reports the outcome of a call.

        Needed if the backend has `report_methods`.

        Args:
            call: a placed call.
            outcome: one of `report_outcomes`.
        """
        raise NotImplementedError

    # Helpers for the cases

    def _ordinary(self) -> Situation:
        """Return the first situation that the provider can have."""
        ordered = (situation for situation in Situation if situation in self.situations)
        return next(ordered)

    def _request(self, n: int = 67, code: str | None = None) -> CallRequest:
        length = self.code_lengths[0]
        if self.backend_class.chooses_code:
            length, code = len(code or "") or length, ""
        elif code is None:
            code = f"{7391 + n * 29:0{length}d}"
        reference = uuid.uuid4().hex
        return CallRequest(
            f"{self.phone[:-2]}{n:02d}", Secret(code), reference, self.channel, length
        )

    def _backend(self) -> BaseBackend:
        backend = self.backend_class.build("contract", self.options())
        self.addCleanup(backend.close)
        return backend

    def _place(self, situation: Situation, *, code: str | None = None) -> Placing:
        request = self._request(code=code)
        self.prepare(situation, request)
        backend = self._backend()
        outcome: Receipt | ProviderError
        with self._logs() as logged:
            try:
                outcome = backend.place_call(request)
            except ProviderError as error:
                outcome = error
        return Placing(request, outcome, "\n".join(logged))

    def _fail(self, situation: Situation) -> ProviderError:
        outcome = self._place(situation).outcome
        if not isinstance(outcome, ProviderError):
            self.fail(f"There should be an error, not {outcome!r}.")
        return outcome

    def _receipt(self, placing: Placing) -> Receipt:
        if not isinstance(placing.outcome, Receipt):
            self.fail(f"The provider took the call, and the backend says {placing.outcome!r}.")
        return placing.outcome

    def _rang_once(self) -> Sequence[PlacedCall]:
        calls = self.placed()
        self.assertEqual(len(calls), 1, "The phone rings once.")
        return calls

    @contextmanager
    def _logs(self) -> Iterator[list[str]]:
        """Collect the messages of all loggers at all levels."""
        lines: list[str] = []
        known = set(vars(logging.makeLogRecord({})))

        class Collector(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                extra = {k: v for k, v in vars(record).items() if k not in known}
                lines.append(f"{logging.Formatter().format(record)} {record.args!r} {extra!r}")

        root, collector = logging.getLogger(), Collector()
        level = root.level
        root.addHandler(collector)
        root.setLevel(logging.NOTSET)
        try:
            yield lines
        finally:
            root.setLevel(level)
            root.removeHandler(collector)

    def _assert_success(self, placing: Placing, call: PlacedCall) -> None:
        request, receipt = placing.request, self._receipt(placing)
        self.assertEqual(call.phone, request.phone)
        self.assertIn(call.reference, ("", request.reference))
        if call.provider_id:
            self.assertEqual(receipt.provider_id, call.provider_id)
        self.assertRegex(receipt.provider_id, r"\A[!-~]{0,64}\Z")
        if self.backend_class.chooses_code:
            self.assertIsInstance(receipt.code, Secret)
            self.assertEqual(receipt.code, call.code)
            self.assertRegex(call.code, rf"\A[0-9]{{{request.code_length}}}\Z")
        else:
            self.assertIsNone(receipt.code)
            self.assertEqual(call.code, str(request.code))

    def _assert_rejected(self, situation: Situation) -> None:
        error = self._fail(situation)
        self.assertIs(type(error), REJECTIONS[situation])
        self.assertFalse(error.may_have_been_placed, "Certainly no call was placed.")
        self.assertEqual(list(self.placed()), [])

    def _assert_unknown(self, situation: Situation) -> None:
        error = self._fail(situation)
        self.assertIsInstance(error, UnknownOutcome)
        self.assertTrue(error.may_have_been_placed)
        self._rang_once()

    def _assert_silent(self, placing: Placing) -> None:
        outcome = placing.outcome
        shown = [repr(placing.request), repr(outcome), str(outcome), placing.logged]
        if isinstance(outcome, ProviderError):
            self.assertIsNone(outcome.__cause__, "Raise outside of any except block.")
            self.assertIsNone(outcome.__context__, "Raise outside of any except block.")
            shown += [repr(vars(outcome)), "".join(traceback.format_exception(outcome))]
            frames = list(traceback.walk_tb(outcome.__traceback__))
            # Skip the first frame: it is ours and contains the request.
            shown += [repr(frame.f_locals) for frame, _ in frames[1:]]
        calls = self.placed()
        codes = {str(placing.request.code), *(call.code for call in calls)}
        self._assert_no_secret(*shown)
        public = {placing.request.reference, *(call.provider_id for call in calls)}
        for code in filter(None, codes):
            self.assertFalse(any(shows(text, code, public) for text in shown), "A code is shown.")

    def _assert_no_secret(self, *shown: str) -> None:
        options = self.options()
        for name in self.backend_class.secret_options:
            secret = options.get(name)
            if secret:
                self.assertGreaterEqual(len(secret), 8, f"{name!r} could stand there by chance.")
                self.assertFalse(any(secret in text for text in shown), f"{name!r} is shown.")

    def _assert_refused(self, options: Mapping[str, Any], name: str) -> None:
        found = self.backend_class.check_options("contract", options)
        self.assertTrue(any(each.is_serious() and repr(name) in each.msg for each in found), found)
        self._assert_helpful(found)
        with self.assertRaises(ImproperlyConfigured) as caught:
            self.backend_class.build("contract", options)
        self._assert_no_secret(str(caught.exception))

    def _assert_helpful(self, found: Sequence[checks.CheckMessage]) -> None:
        for message in found:
            self.assertTrue(message.hint, "A check says what to do.")
            self.assertTrue(message.id, "A check has an id.")
            self._assert_no_secret(repr(message))

    def _assert_fits(self, report: Report) -> None:
        """Assert that the fields of a report can be stored and shown."""
        self.assertEqual(report.backend, "contract")
        self.assertIn(report.outcome, OUTCOMES)
        self.assertIn(report.error_code, ("", *REASONS))
        self.assertTrue(report.provider_id or report.reference)
        for text in (report.provider_id, report.reference):
            self.assertRegex(text, r"\A[!-~]{0,64}\Z")
        self.assertRegex(report.mcc_mnc, r"\A([0-9]{5,6})?\Z")
        if report.provider_code is not None:
            self.assertIs(type(report.provider_code), int)
            self.assertLess(abs(report.provider_code), 2**31)
        if report.price is not None:
            self.assertIsInstance(report.price, Decimal)
            self.assertTrue(0 <= report.price < 10**8)
        for date in (report.submitted_at, report.done_at):
            self.assertTrue(date is None or date.tzinfo is not None, "Dates have a zone.")


def shows(text: str, code: str, public: Iterable[str]) -> bool:
    """Return True if a text contains the code, not as a part of a longer number.

    Args:
        text: the text.
        code: the code.
        public: values such as a reference, which may contain the code by chance; so may addresses
            of objects.
    """
    for value in public:
        if code in value and value != code:
            text = text.replace(value, "…")
    text = re.sub(r"\b0x[0-9a-f]+", "0x…", text)
    return re.search(rf"(?<!\d){re.escape(code)}(?!\d)", text) is not None
