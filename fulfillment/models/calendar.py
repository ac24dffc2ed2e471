"""Business calendars: when people work, as data that operators edit."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class BusinessCalendar(models.Model):
    """Working hours and holidays of some place; windows of workflows name it."""

    name = models.SlugField(primary_key=True, max_length=63)
    title = models.CharField(max_length=200)
    spec = models.JSONField(help_text="Time zone, hours and holidays.")
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
