"""Jobs over many orders."""

from __future__ import annotations

from typing import Any

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0030_audit_guard")]

    operations: list[Any] = []
