from django.contrib.auth import get_user_model
from django.urls import path
from django_otp.admin import OTPAdminSite

from .urls import urlpatterns

otp_admin = OTPAdminSite()
otp_admin.register(get_user_model())

urlpatterns = [path("otp-admin/", otp_admin.urls), *urlpatterns]
