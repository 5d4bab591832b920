"""The JSON API: ``include("django_flashcall.rest_framework.urls")``."""
