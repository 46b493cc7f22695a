"""Documents of several customers, each with its file."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class Document(models.Model):
    tenant = models.CharField(max_length=50, editable=False)
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.PROTECT)
    published = models.DateField(null=True, blank=True)
    confidential = models.BooleanField(default=False)
    file = models.FileField(upload_to="documents/")

    def __str__(self):
        return self.title
