"""The admin site: each customer sees its own documents."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from .models import Author, Document


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    search_fields = ["name"]


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["title", "author", "published", "confidential", "download"]
    list_filter = ["confidential", "published"]
    search_fields = ["title", "author__name"]
    autocomplete_fields = ["author"]
    list_per_page = 20

    def get_queryset(self, request):
        return super().get_queryset(request).filter(tenant=request.tenant)

    def save_model(self, request, obj, form, change):
        obj.tenant = request.tenant
        super().save_model(request, obj, form, change)

    @admin.display(description="file")
    def download(self, document):
        return format_html('<a href="{}">{}</a>', reverse("download", args=[document.pk]), document.title)
