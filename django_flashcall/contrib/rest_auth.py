"""Registration and login by phone of dj-rest-auth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dj_rest_auth.views import LoginView
from django.apps import apps
from django.db import IntegrityError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from .. import services
from ..rest_framework.serializers import PhoneTokenField, run
from ..sessions import visitor
from ..verification.owners import save_number

if TYPE_CHECKING:
    Base = serializers.Serializer[Any]
else:
    Base = object

__all__ = ["PhoneRegisterMixin", "answer"]


class PhoneRegisterMixin(Base):
    """Demand a verified number at registration. List it before ``RegisterSerializer``.

    Adds the required field ``phone_token``, a token of purpose ``signup``. The account and its
    number are saved in one transaction; a refused registration does not spend the token.
    """

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), "phone_token": PhoneTokenField()}

    def save(self, request: Request) -> Any:  # type: ignore[override]
        """Save the account and its number, and return the account."""
        token = self.validated_data["phone_token"]

        def create_user(number: str) -> Any:
            base: Any = super(PhoneRegisterMixin, self)
            user = base.save(request)
            save_number(user, number)
            return user

        try:
            user, _phone = run(services.sign_up, token, create_user, **visitor(request))
        except IntegrityError:
            # Someone else took the username in the meantime: validate again.
            self.run_validation(self.initial_data)
            raise
        return user


def answer(request: Request, user: Any) -> Response:
    """Return what dj-rest-auth's own login returns, for ``ANSWER`` of ``LOGIN``.

    A key, or JSON web tokens with their cookies, and a session: as ``REST_AUTH`` says. With
    ``dj_rest_auth.mfa``, a user who has a second factor is asked for it.
    """
    view = _view_class()(request=request, format_kwarg=None)
    view.serializer = SimpleNamespace(
        validated_data={"user": user}, context=view.get_serializer_context()
    )
    view.login()
    response: Response = view.get_response()
    return response


def _view_class() -> Any:
    if apps.is_installed("dj_rest_auth.mfa"):
        from dj_rest_auth.mfa.views import MFALoginView

        return MFALoginView
    return LoginView
