"""The admin site, downloads, and a few pages that show how a request looks from inside."""

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponsePermanentRedirect, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path
from ranged_response import RangedFileResponse

from .models import Document


@login_required(login_url="/admin/login/")
def download(request, pk):
    document = get_object_or_404(Document, pk=pk, tenant=request.tenant)
    response = RangedFileResponse(request, document.file.open("rb"), content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{document.title}.bin"'
    return response


def seen(request):
    """What Django makes of the request: wrong settings show here first."""
    return JsonResponse(
        {
            "absolute": request.build_absolute_uri("/x?y=1"),
            "secure": request.is_secure(),
            "tenant": request.tenant,
            "address": request.META["HTTP_X_FORWARDED_FOR"] if request.is_secure() else request.META["REMOTE_ADDR"],
        }
    )


def export(request):
    """A long answer that is made while it is sent."""
    rows = (f"{number},row {number}\n" for number in range(50_000))
    return StreamingHttpResponse(rows, content_type="text/csv")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("documents/<int:pk>/", download, name="download"),
    path("seen", seen),
    path("export.csv", export),
    path("old", lambda request: HttpResponsePermanentRedirect("/seen")),
    path("nothing", lambda request: HttpResponse(status=204)),
]
