"""Manual tasks that are claimed, and what each outcome does."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0028_cases")]

    operations: list[Any] = []
