from django.views.generic import TemplateView


class ApiView(TemplateView):
    """The way of an app, beside that of the pages."""

    template_name = "example/api.html"
