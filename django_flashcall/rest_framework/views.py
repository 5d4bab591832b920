"""The views of the API: parse, call the service, respond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, NotFound, UnsupportedMediaType
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import services, sessions
from ..conf import conf
from ..decorators import non_atomic
from ..exceptions import PhoneNotFound, ReauthenticationRequired
from ..models import Verification
from ..protection import challenges
from . import exceptions, serializers
from .parsers import JSONParser

__all__ = [
    "ChallengeView",
    "CheckView",
    "FlashcallView",
    "LoginView",
    "PhoneView",
    "ResendView",
    "SignupView",
    "StartView",
    "VerificationView",
]

LONGEST_WAIT = 30
"""Seconds after which an app should ask for the state of a call again, at the latest."""


class FlashcallView(APIView):
    """Base of the API views: no login required, JSON only, exempt from ``ATOMIC_REQUESTS``.

    JSON only, so that a form on another site cannot place calls; not atomic, so that an error
    response does not undo counts.
    """

    parser_classes = (JSONParser,)
    permission_classes: Any = (AllowAny,)
    serializer_class: ClassVar[Any] = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return non_atomic(super().as_view(**initkwargs))

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return exceptions.handle

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response: Response = super().finalize_response(*args, **kwargs)
        # Responses contain tokens and numbers of one visitor (RFC 9111, 5.2.2.5).
        response["Cache-Control"] = "no-store"
        return response

    def save(
        self, request: Request, instance: Any = None, code: int = status.HTTP_200_OK
    ) -> HttpResponseBase:
        serializer = self.serializer_class(
            instance, data=request.data, context={"request": request}
        )
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return self.respond(serializer, code)

    def respond(self, serializer: Any, code: int) -> HttpResponseBase:
        return Response(serializer.data, status=code)

    def verification(self, request: Request, id: UUID) -> Verification:
        return services.find(id, **sessions.visitor(request))


class StartView(FlashcallView):
    """Start a verification and place a call."""

    serializer_class = serializers.StartSerializer

    def post(self, request: Request) -> HttpResponseBase:
        return self.save(request, code=status.HTTP_201_CREATED)


class ChallengeView(FlashcallView):
    """Return a new challenge to solve after `challenge_required`; 404 if the site makes none."""

    def get(self, request: Request) -> Response:
        found = challenges.offer()
        if found is None:
            raise NotFound
        return Response(found)


class VerificationView(FlashcallView):
    """Show or cancel a verification."""

    def get(self, request: Request, id: UUID) -> Response:
        verification = self.verification(request, id)
        response = Response(serializers.show(verification))
        if verification.is_pending:
            response["Retry-After"] = str(_ask_again_after(verification))
        return response

    def delete(self, request: Request, id: UUID) -> Response:
        services.cancel(self.verification(request, id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class CheckView(FlashcallView):
    """Check a code. The right code returns the token."""

    serializer_class = serializers.CheckSerializer

    def post(self, request: Request, id: UUID) -> HttpResponseBase:
        try:
            return self.save(request, id)
        except APIException as error:
            if not isinstance(error, exceptions.ServiceError):
                self.verification(request, id)  # not found is said before not valid
            raise


class ResendView(FlashcallView):
    """Request another call for the same verification."""

    serializer_class = serializers.ResendSerializer

    def post(self, request: Request, id: UUID) -> HttpResponseBase:
        # Without a body, DRF does not ask for its type, and a form of another site can send that.
        if self.get_content_negotiator().select_parser(request, self.get_parsers()) is None:
            raise UnsupportedMediaType(request.content_type)
        return self.save(request, self.verification(request, id))


class LoginView(FlashcallView):
    """Log in with a verified number. The response is what the setting ``LOGIN`` says."""

    serializer_class = serializers.LoginSerializer

    def post(self, request: Request) -> HttpResponseBase:
        if conf.LOGIN.answer is not None:
            return self.save(request)
        # The response sets a session cookie, so another site must not be able to send the request:
        # its visitor would be logged in to an account of its choice. DRF enforces this only for
        # users who are logged in.
        SessionAuthentication().enforce_csrf(request)
        response = self.save(request)
        sessions.save(request._request, response)
        return response

    def respond(self, serializer: Any, code: int) -> HttpResponseBase:
        if isinstance(serializer.answer, HttpResponseBase):
            return serializer.answer
        return super().respond(serializer, code)


class PhoneView(FlashcallView):
    """Show, set, change or remove the number of the logged-in user."""

    permission_classes = (IsAuthenticated,)
    serializer_class = serializers.PhoneChangeSerializer

    def get(self, request: Request) -> Response:
        phone = services.phone_of(request.user)
        if phone is None:
            raise PhoneNotFound
        return Response(serializers.PhoneSerializer(phone).data)

    def post(self, request: Request) -> HttpResponseBase:
        self.reauthenticate(request)
        return self.save(request)

    def delete(self, request: Request) -> Response:
        self.reauthenticate(request)
        services.remove_phone(request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def reauthenticate(self, request: Request) -> None:
        """Raise `ReauthenticationRequired` unless ``REAUTHENTICATE`` allows a change."""
        if sessions.reauthenticate(request) is not None:
            raise ReauthenticationRequired


class SignupView(FlashcallView):
    """Create an account with a verified number."""

    serializer_class = serializers.SignupSerializer

    def post(self, request: Request) -> HttpResponseBase:
        return self.save(request, code=status.HTTP_201_CREATED)


def _ask_again_after(verification: Verification) -> int:
    """Return how many seconds an app should wait before it asks for the state again.

    Most happens soon after the call, so it is a quarter of the call's age, and 1 to 30 seconds.
    """
    age = timezone.now() - verification.newest_call.created_at
    return min(max(1, int(age.total_seconds() / 4)), LONGEST_WAIT)
