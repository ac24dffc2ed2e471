"""Service and billing of each item, from the first of the two on."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oms", "0004_customer")]

    operations = [
        migrations.CreateModel(
            name="BillingMatch",
            fields=[
                (
                    "item",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="billing_match",
                        serialize=False,
                        to="oms.orderitem",
                    ),
                ),
                (
                    "service_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since then the service is as it was ordered.",
                        null=True,
                    ),
                ),
                (
                    "billed_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since then it is billed as it was ordered.",
                        null=True,
                    ),
                ),
                (
                    "due_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When it is looked at next; empty when both are there.",
                        null=True,
                    ),
                ),
                (
                    "filed",
                    models.BooleanField(
                        default=False, help_text="A case has been opened about it."
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("service_at__isnull", False),
                            ("billed_at__isnull", False),
                            _connector="OR",
                        ),
                        name="one_of_both_is_there",
                    )
                ],
                "indexes": [
                    models.Index(
                        condition=models.Q(("due_at__isnull", False)),
                        fields=["due_at", "item"],
                        name="billing_match_due",
                    )
                ],
            },
        ),
    ]
