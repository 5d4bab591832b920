from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from django_flashcall.pages.views import StartView

from . import views

urlpatterns = [
    path("", StartView.as_view(template_name="example/home.html"), name="home"),
    path("phone/", include("django_flashcall.urls")),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("profile/", views.profile, name="profile"),
    path("api/", include("django_flashcall.rest_framework.urls")),
    path("api/docs/", views.api, name="api"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/swagger/", views.Swagger.as_view(url_name="schema"), name="swagger"),
    path("language/", include("django.conf.urls.i18n")),
    path("favicon.ico", RedirectView.as_view(url=static("example/icon.svg"))),
    path("admin/", admin.site.urls),
    path("virtual-phone/", include("virtual_phone.urls")),  # only for the demo
]
