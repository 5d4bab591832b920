from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import TemplateView

from . import views

urlpatterns = [
    path("", TemplateView.as_view(template_name="example/home.html"), name="home"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("profile/", TemplateView.as_view(template_name="example/home.html"), name="profile"),
    path("api/docs/", views.ApiView.as_view(), name="api"),
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("virtual-phone/", include("virtual_phone.urls")),
    path("admin/", admin.site.urls),
]
