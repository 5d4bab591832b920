from django.urls import include, path
from django.views.generic import RedirectView
from two_factor.urls import urlpatterns as two_factor_urls

from .urls import urlpatterns

urlpatterns = [
    path("", include(two_factor_urls)),
    # Logins without the second factor would make it useless.
    path("login/", RedirectView.as_view(pattern_name="two_factor:login", query_string=True)),
    *urlpatterns,
]
