"""Registration and login by phone of djoser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djoser.conf import settings
from djoser.utils import login_user
from rest_framework import serializers
from rest_framework.request import Request

from .. import services
from ..conf import conf
from ..rest_framework.serializers import PhoneTokenField, run
from ..sessions import visitor

if TYPE_CHECKING:
    Base = serializers.Serializer[Any]
else:
    Base = object

__all__ = ["PhoneUserCreateMixin", "answer"]


class PhoneUserCreateMixin(Base):
    """Demand a verified number at registration. List it before ``UserCreateSerializer``.

    Adds the required field ``phone_token``, a token of purpose ``signup``. The account and its
    number are saved in one transaction; a refused registration does not spend the token. Only the
    token fills ``USER_PHONE_FIELD``.
    """

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()
        if conf.USER_PHONE_FIELD in fields:
            fields[conf.USER_PHONE_FIELD] = serializers.CharField(read_only=True)
        return {**fields, "phone_token": PhoneTokenField()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        # djoser creates an account of all the values, to compare the password with them.
        token = attrs.pop("phone_token")
        return {**super().validate(attrs), "phone_token": token}

    def perform_create(self, validated_data: dict[str, Any]) -> Any:
        """Save the account and its number, and return the account."""
        token = validated_data.pop("phone_token")

        def create_user(number: str) -> Any:
            filled = {conf.USER_PHONE_FIELD: number} if conf.USER_PHONE_FIELD else {}
            base: Any = super(PhoneUserCreateMixin, self)
            return base.perform_create({**validated_data, **filled})

        user, _phone = run(services.sign_up, token, create_user, **visitor(self.context["request"]))
        return user


def answer(request: Request, user: Any) -> dict[str, Any]:
    """Return what djoser's own login returns, ``{"auth_token"}``, for ``ANSWER`` of ``LOGIN``.

    For JSON web tokens, name `django_flashcall.rest_framework.answers.jwt` instead.
    """
    token = login_user(request, user)
    return dict(settings.SERIALIZERS.token(token).data)
