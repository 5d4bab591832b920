"""The strict policy that every page has to stand."""

POLICY = "default-src 'self'"


def strict_policy(get_response):
    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware
