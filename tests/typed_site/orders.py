"""What a site does with the app; a line that must not pass the type checker says so."""

from typing import Any, assert_type
from uuid import UUID

from django import forms
from django.contrib.auth.models import User
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.views import APIView

from django_flashcall import services, signals
from django_flashcall.decorators import phone_verified_required
from django_flashcall.exceptions import Cooldown, FlashcallError, WrongCode
from django_flashcall.forms import PhoneField, VerifiedPhoneMixin
from django_flashcall.models import Call, Phone, Verification
from django_flashcall.rest_framework.permissions import HasVerifiedPhone
from django_flashcall.rest_framework.serializers import PhoneTokenField


class OrderForm(VerifiedPhoneMixin, forms.Form):
    friend = PhoneField(required=False)


class OrderSerializer(serializers.Serializer[Any]):
    phone_token = PhoneTokenField(purpose="order")


class OrderAPI(APIView):
    permission_classes: list[type[BasePermission]] = [HasVerifiedPhone]


@phone_verified_required
def order(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(f"Order {number}.")


assert_type(order(HttpRequest(), 1), HttpResponse)
order(HttpRequest(), "one")  # type: ignore[arg-type]


@receiver(signals.phone_verified)
def thank(verification: Verification, **kwargs: Any) -> None:
    print(verification.phone.masked)


def call(phone: str, ip: str) -> UUID | int:
    try:
        verification = services.start(phone, purpose="order", ip=ip)
    except Cooldown as error:
        assert_type(error.retry_after, int | None)
        return error.retry_after or 60
    except FlashcallError as error:
        assert_type(error.error_code, str)
        assert_type(error.field, str | None)
        raise
    assert_type(verification, Verification)
    assert_type(verification.newest_call, Call)
    assert_type(verification.channels, list[str])
    return verification.pk


def finish(id: UUID, code: str, user: User) -> str:
    verification = services.find(id, user=user)
    try:
        token = services.check(verification, code)
    except WrongCode as error:
        assert_type(error.attempts_left, int | None)
        raise
    assert_type(token, str)
    placed = services.place_call(verification.phone.number, "123456", purpose="totp", user=user)
    placed.code.isdecimal()
    services.confirm_call(placed.verification.phone.number, purpose="totp", user=user)
    phone = services.redeem(token, purpose="order", user=user)
    assert_type(phone, Phone)
    return phone.number


async def call_and_finish(phone: str, code: str, user: User) -> str | None:
    verification = await services.astart(phone, purpose="order", user=user)
    assert_type(verification, Verification)
    assert_type(await services.aresend(verification, channel="voice_code"), Verification)
    token = await services.acheck(await services.afind(verification.pk, user=user), code)
    assert_type(token, str)
    assert_type(await services.aredeem(token, purpose="order", user=user), Phone)
    await services.acancel(verification)
    placed = await services.aplace_call(phone, "1234", purpose="second-factor", user=user)
    assert_type(placed, services.PlacedCall)
    assert_type(await services.aconfirm_call(phone, purpose="second-factor"), Phone)
    owned = await services.aphone_of(user)
    assert_type(owned, Phone | None)
    return owned.number if owned else None


@phone_verified_required
async def async_order(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(f"Order {number}.")


async def async_mistakes(verification: Verification) -> None:
    await services.astart(79161234567)  # type: ignore[arg-type]
    await services.astart("+79161234567", "voice_code")  # type: ignore[call-arg]
    await services.acheck(verification)  # type: ignore[call-arg]
    services.acheck(verification, "1234").upper()  # type: ignore[attr-defined]


def mistakes(verification: Verification) -> None:
    services.start(79161234567)  # type: ignore[arg-type]
    services.start("+79161234567", "voice_code")  # type: ignore[call-arg]
    services.check(verification)  # type: ignore[call-arg]
    services.check(verification, 1234)  # type: ignore[arg-type]
    services.begin("+79161234567")  # type: ignore[attr-defined]
