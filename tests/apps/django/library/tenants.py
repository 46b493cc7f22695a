"""Which customer a request is for: what the gateway says, or the first label of the host where there is none."""


class TenantMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        host = request.get_host().split(".")[0]
        request.tenant = request.headers.get("x-tenant-id", host)
        return self.get_response(request)
