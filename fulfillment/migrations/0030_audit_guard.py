"""Seals of audit heads; states change only where a unit of work changes them."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0029_manual_work")]

    operations: list[Any] = []
