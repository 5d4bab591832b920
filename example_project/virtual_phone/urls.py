from django.urls import path

from . import views

urlpatterns = [path("", views.virtual_phone, name="virtual_phone")]
