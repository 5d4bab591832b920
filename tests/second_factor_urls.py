"""A site with django-otp's admin and the pages of django-two-factor-auth, as their guides say."""

from django.contrib.auth import get_user_model
from django.urls import include, path
from django.utils.decorators import method_decorator
from django_otp.admin import OTPAdminSite
from two_factor.urls import urlpatterns as two_factor_urls

from django_flashcall.contrib.otp.admin import CallDeviceAdmin
from django_flashcall.contrib.otp.models import CallDevice
from django_flashcall.decorators import non_atomic

from . import urls

otp_admin = OTPAdminSite("otpadmin")
otp_admin.register(get_user_model())
otp_admin.register(CallDevice, CallDeviceAdmin)


@method_decorator(non_atomic, name="login")
class NonAtomicAdminSite(OTPAdminSite):
    """The admin of a site with ``ATOMIC_REQUESTS``, as our guide says."""


urlpatterns = [
    path("", include(two_factor_urls)),
    path("otp-admin/", otp_admin.urls),
    path("non-atomic-admin/", NonAtomicAdminSite("nonatomic").urls),
    *urls.urlpatterns,
]
