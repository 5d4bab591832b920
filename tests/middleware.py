"""The strict policy that every page has to stand, and a middleware that is not asynchronous."""

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

POLICY = "default-src 'self'"


@sync_and_async_middleware
def strict_policy(get_response):
    def apply(response):
        response["Content-Security-Policy"] = POLICY
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            return apply(await get_response(request))

    else:

        def middleware(request):
            return apply(get_response(request))

    return middleware


def synchronous(get_response):
    return lambda request: get_response(request)
