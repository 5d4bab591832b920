"""Test cases for authors of backends: the contract between the app and a backend.

The cases know no provider. A subclass supplies the backend and a stand-in for the provider that can
be told what to do next, ideally a real HTTP server.
"""

from __future__ import annotations

import threading
import unittest
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from ..backends import CallRequest, Receipt, WebhookRequest
from ..exceptions import MalformedReport, TemporaryFailure
from . import hostile
from .situations import Situation
from .steps import Placing, Steps, shows

Case = TypeVar("Case", bound=Callable[..., None])

THREADS = 8
CALLS_AT_ONCE = 24


def _needs(*situations: Situation, **capabilities: object) -> Callable[[Case], Case]:
    """Mark a case that needs these situations and capabilities of the provider."""

    def mark(case: Case) -> Case:
        case._needs = situations, capabilities  # type: ignore[attr-defined]
        return case

    return mark


class BackendContract(Steps):
    """Subclass it in your tests to check that a backend does everything that the app relies on.

    It works with ``manage.py test`` and pytest. Import the module rather than the class
    (``from django_flashcall import testing``), so that the class itself is not collected::

        class AcmeTests(testing.BackendContract):
            backend_class = AcmeBackend

            def options(self): ...
            def prepare(self, situation, request): ...
            def placed(self): ...
            def report(self, call, outcome): ...

    Cases for situations that the provider does not have are removed from the subclass, not skipped.
    The database is not available: backends do not use models.
    """

    # Collection

    _chosen: ClassVar[dict[str, Any]] = {}
    """The cases that this class chose, unlike those that a subclass defines or leaves out."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__test__ = hasattr(cls, "backend_class")
        cls._chosen = {}
        for name, case in vars(BackendContract).items():
            if cls.__test__ and hasattr(case, "_needs") and not cls._defines(name):
                cls._chosen[name] = case if cls._can(*case._needs) else None
                setattr(cls, name, cls._chosen[name])

    @classmethod
    def _defines(cls, name: str) -> bool:
        """Return True if a subclass defines a case, or leaves it out."""
        classes = cls.__mro__[: cls.__mro__.index(BackendContract)]
        return any(name in vars(c) and name not in vars(c).get("_chosen", {}) for c in classes)

    @classmethod
    def _can(cls, situations: Iterable[Situation], capabilities: Mapping[str, object]) -> bool:
        has = {
            "reports": bool(cls.backend_class.report_methods),
            "chooses_code": cls.backend_class.chooses_code,
            "drops_repeats": cls.drops_repeats,
        }
        return cls.situations.issuperset(situations) and capabilities.items() <= has.items()

    @classmethod
    def setUpClass(cls) -> None:
        if not cls.__test__:
            raise unittest.SkipTest("Subclass it and name a backend_class.")
        super().setUpClass()

    # Success

    @_needs(Situation.ACCEPTED)
    def test_a_call_is_placed_with_its_code(self) -> None:
        for length in self.code_lengths:
            with self.subTest(length=length):
                # The leading zero is lost if the code is treated as a number.
                placing = self._place(Situation.ACCEPTED, code="073912"[:length])
                self._assert_success(placing, *self._rang_once())

    @_needs(Situation.ACCEPTED)
    def test_each_call_has_an_identifier_of_its_own(self) -> None:
        first, second = (self._receipt(self._place(Situation.ACCEPTED)) for _ in range(2))
        if first.provider_id:
            self.assertNotEqual(first.provider_id, second.provider_id)

    @_needs(Situation.ACCEPTED)
    def test_threads_do_not_mix_calls_up(self) -> None:
        requests = [self._request(n) for n in range(CALLS_AT_ONCE)]
        self.prepare(Situation.ACCEPTED, requests[0])
        backend = self._backend()
        together = threading.Barrier(THREADS)

        def place(request: CallRequest) -> Placing:
            together.wait(timeout=60)
            return Placing(request, backend.place_call(request), "")

        with ThreadPoolExecutor(THREADS) as pool:
            placings = list(pool.map(place, requests))
        calls = {call.phone: call for call in self.placed()}
        self.assertEqual(len(self.placed()), len(requests), "Each request is one call.")
        for placing in placings:
            self._assert_success(placing, calls[placing.request.phone])

    @_needs(Situation.ACCEPTED)
    def test_it_can_be_closed_while_it_is_used(self) -> None:
        request = self._request()
        self.prepare(Situation.ACCEPTED, request)
        backend = self._backend()
        backend.close()
        backend.close()
        # A thread may still use the backend after the settings have changed.
        self.assertIsInstance(backend.place_call(request), Receipt)

    # Failures

    @_needs(Situation.NUMBER_REJECTED)
    def test_a_number_that_the_provider_does_not_know(self) -> None:
        self._assert_rejected(Situation.NUMBER_REJECTED)

    @_needs(Situation.DUPLICATE)
    def test_a_call_taken_for_a_repeat(self) -> None:
        self._assert_rejected(Situation.DUPLICATE)

    @_needs(Situation.TEMPORARY)
    def test_a_provider_that_cannot_place_calls_now(self) -> None:
        self._assert_rejected(Situation.TEMPORARY)

    @_needs(Situation.MISCONFIGURED)
    def test_misconfiguration_is_reported(self) -> None:
        self._assert_rejected(Situation.MISCONFIGURED)

    @_needs(Situation.UNREACHABLE)
    def test_a_provider_that_cannot_be_reached(self) -> None:
        self._assert_rejected(Situation.UNREACHABLE)

    @_needs(Situation.UNCERTAIN)
    def test_an_error_that_does_not_say_whether_the_phone_rings(self) -> None:
        error = self._fail(Situation.UNCERTAIN)
        self.assertTrue(error.may_have_been_placed, "Nobody said that no call was placed.")
        self.assertLessEqual(len(self.placed()), 1)

    @_needs(Situation.LOST)
    def test_a_lost_answer_is_an_unknown_outcome(self) -> None:
        self._assert_unknown(Situation.LOST)

    @_needs(Situation.SENSELESS)
    def test_an_answer_without_sense_is_an_unknown_outcome(self) -> None:
        self._assert_unknown(Situation.SENSELESS)

    # Repeats

    @_needs(Situation.RECOVERS)
    def test_asking_again_is_one_call(self) -> None:
        placing = self._place(Situation.RECOVERS)
        if isinstance(placing.outcome, Receipt):
            self._assert_success(placing, *self._rang_once())
        else:  # the backend does not retry
            self.assertIsInstance(placing.outcome, TemporaryFailure)
            self.assertEqual(self.placed(), [])

    @_needs(Situation.ACCEPTED, drops_repeats=True)
    def test_a_repeat_is_the_same_call(self) -> None:
        request = self._request()
        self.prepare(Situation.ACCEPTED, request)
        backend = self._backend()
        first, second = backend.place_call(request), backend.place_call(request)
        self.assertEqual(first, second)
        self._rang_once()

    # Secrets

    def test_no_error_shows_a_secret(self) -> None:
        for situation in Situation:
            if situation in self.situations:
                with self.subTest(situation=situation.name):
                    self._assert_silent(self._place(situation))

    @_needs(Situation.ECHO)
    def test_the_providers_words_are_made_fit_to_be_shown(self) -> None:
        error = self._fail(Situation.ECHO)
        self.assertLessEqual(len(error.description), 300)
        self.assertTrue(error.description.isprintable(), "No control characters.")

    def test_the_backend_shows_no_secret(self) -> None:
        self.prepare(self._ordinary(), self._request())
        backend = self._backend()
        self._assert_no_secret(repr(backend), str(backend), repr(vars(backend)))

    # Options

    def test_right_options_pass(self) -> None:
        self.prepare(self._ordinary(), self._request())
        found = self.backend_class.check_options("contract", self.options())
        self.assertEqual([each for each in found if each.is_serious()], [])
        self._assert_helpful(self.backend_class.check_deployment("contract", self.options()))

    def test_an_unknown_option_is_an_error(self) -> None:
        self.prepare(self._ordinary(), self._request())
        self._assert_refused({**self.options(), "no_such_option": 1}, "no_such_option")

    def test_a_missing_option_is_an_error(self) -> None:
        self.prepare(self._ordinary(), self._request())
        options = self.options()
        for name in self.backend_class.required_options():
            with self.subTest(option=name):
                self._assert_refused({k: v for k, v in options.items() if k != name}, name)

    def test_secret_options_are_options_and_never_shown(self) -> None:
        self.prepare(self._ordinary(), self._request())
        options = self.options()
        for name in self.backend_class.secret_options:
            with self.subTest(option=name):
                self.assertIn(name, self.backend_class.option_parameters())
                wrong = {**options, name: [options.get(name)]}
                found = self.backend_class.check_options("contract", wrong)
                self.assertTrue(found, "A list is no secret, and check_options says so.")
                self._assert_helpful(found)

    # Delivery reports

    @_needs(reports=False)
    def test_without_reports_everything_is_malformed(self) -> None:
        self.prepare(self._ordinary(), self._request())
        with self.assertRaises(MalformedReport):
            self._backend().parse_reports(WebhookRequest("POST", b"{}", {}, {}))

    @_needs(Situation.ACCEPTED, reports=True)
    def test_each_outcome_is_reported(self) -> None:
        for outcome in self.report_outcomes:
            with self.subTest(outcome=outcome):
                placing = self._place(Situation.ACCEPTED)
                (call,) = self._rang_once()
                request = self.report(call, outcome)
                self.assertIn(request.method, self.backend_class.report_methods)
                backend = self._backend()
                (report,) = backend.parse_reports(request)
                self._assert_fits(report)
                self.assertEqual(report.outcome, outcome)
                self.assertEqual(bool(report.error_code), outcome == "undelivered")
                self.assertIn(report.reference, ("", placing.request.reference))
                known = report.provider_id == self._receipt(placing).provider_id != ""
                self.assertTrue(report.reference or known, "The report finds its call.")
                public = {placing.request.reference, call.provider_id}
                self.assertFalse(shows(repr(report), call.code, public), "No code in a report.")
                self.assertEqual(backend.parse_reports(request), [report], "Repeats are equal.")

    @_needs(Situation.ACCEPTED, reports=True)
    def test_nothing_hostile_breaks_the_parser(self) -> None:
        self._place(Situation.ACCEPTED)
        (call,) = self._rang_once()
        backend = self._backend()
        for outcome in self.report_outcomes:
            genuine = self.report(call, outcome)
            for request in hostile.reports(genuine):
                with self._logs():
                    try:
                        reports = backend.parse_reports(request)
                    except MalformedReport:
                        continue
                for report in reports:
                    self._assert_fits(report)

    @_needs(Situation.ACCEPTED, reports=True)
    def test_what_is_no_report_is_malformed(self) -> None:
        self._place(Situation.ACCEPTED)
        self._rang_once()
        backend = self._backend()
        for method in self.backend_class.report_methods:
            for body in hostile.BODIES:
                with self.subTest(body=body[:20]), self.assertRaises(MalformedReport):
                    backend.parse_reports(WebhookRequest(method, body, {}, {}))
