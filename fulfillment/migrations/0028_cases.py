"""Cases with states of their own, incidents, routing."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0027_authority")]

    operations: list[Any] = []
