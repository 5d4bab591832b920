"""The URLs of the measured site."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class EmptyView(APIView):
    """Read the JSON of a request and do nothing: the least that an API in DRF costs."""

    permission_classes = (AllowAny,)

    def post(self, request: Request, **kwargs: Any) -> Response:
        data: Any = request.data
        return Response({"phone": data["phone"]})


urlpatterns = [
    path("flashcall/api/", include("django_flashcall.rest_framework.urls")),
    path("flashcall/", include("django_flashcall.urls")),
    path("phone-verify/", include("phone_verify.urls")),
    path("passwordless/", include("drfpasswordless.urls")),
    path("empty/", EmptyView.as_view()),
]
