"""Customers are told of their orders; assets and what orders will make of them."""

from __future__ import annotations

import django.db.models.deletion
import django_fsm
from django.db import migrations, models

# No version that is published by now names an activation: what is under way becomes real with
# its order.
UNDER_WAY = """
INSERT INTO oms_pendingasset (item_id, order_id, position, client_id, asset_id, customer_id,
    change, offering, quantity, characteristics, place, expected_state, follows, since)
SELECT i.id, o.id, i.position, o.client_id,
    CASE WHEN i.action = 'add' THEN o.reference || '-' || i.position ELSE i.asset END,
    o.customer_id, i.action, i.offering, i.quantity, i.characteristics, i.place,
    CASE WHEN i.action = 'disconnect' THEN 'INACTIVE' ELSE 'ACTIVE' END,
    CASE WHEN NOT EXISTS (
        SELECT 1 FROM fulfillment_plan p
        JOIN fulfillment_plangraph g ON g.id = p.graph_id,
            jsonb_array_elements(g.document -> 'nodes') AS n
        WHERE p.fulfillment_id = o.fulfillment_id AND n -> 'items' @> to_jsonb(i.position)
    ) THEN coalesce((
        SELECT around.position FROM oms_orderitem around WHERE around.id = i.parent_id), 0)
    END,
    o.submitted_at
FROM oms_order o JOIN oms_orderitem i ON i.order_id = o.id
WHERE o.state = 'IN_PROGRESS' AND i.action <> 'no_change' AND (i.action = 'add' OR i.asset <> '')
"""


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0009_accepted_by_target"),
        ("oms", "0003_holds_know_customers"),
    ]

    operations = [
        migrations.CreateModel(
            name="Asset",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("asset_id", models.CharField(max_length=100)),
                ("customer_id", models.CharField(max_length=100)),
                ("offering", models.CharField(max_length=200)),
                ("quantity", models.PositiveIntegerField(default=1)),
                ("characteristics", models.JSONField(blank=True, default=dict)),
                ("place", models.JSONField(blank=True, default=dict)),
                (
                    "state",
                    models.CharField(
                        choices=[("ACTIVE", "ACTIVE"), ("INACTIVE", "INACTIVE")], max_length=20
                    ),
                ),
                ("since", models.DateTimeField(help_text="It has been in this state since then.")),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("order_version", models.PositiveIntegerField()),
                (
                    "occasion",
                    models.CharField(
                        help_text="accepted, completed, delayed, or milestone:<name>.",
                        max_length=100,
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("email", "email"), ("webhook", "webhook")], max_length=20
                    ),
                ),
                ("recipient", models.CharField(max_length=254)),
                ("subject", models.CharField(max_length=400)),
                ("body", models.TextField()),
                (
                    "state",
                    django_fsm.FSMField(
                        choices=[("QUEUED", "QUEUED"), ("SENT", "SENT"), ("FAILED", "FAILED")],
                        default="QUEUED",
                        max_length=50,
                        protected=True,
                    ),
                ),
                (
                    "reason",
                    models.TextField(
                        blank=True, default="", help_text="Why it was not sent so far."
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="PendingAsset",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.PositiveIntegerField()),
                ("asset_id", models.CharField(max_length=100)),
                ("customer_id", models.CharField(max_length=100)),
                (
                    "change",
                    models.CharField(
                        choices=[
                            ("add", "add"),
                            ("modify", "modify"),
                            ("disconnect", "disconnect"),
                        ],
                        max_length=20,
                    ),
                ),
                ("offering", models.CharField(max_length=200)),
                ("quantity", models.PositiveIntegerField(default=1)),
                ("characteristics", models.JSONField(blank=True, default=dict)),
                ("place", models.JSONField(blank=True, default=dict)),
                (
                    "expected_state",
                    models.CharField(
                        choices=[("ACTIVE", "ACTIVE"), ("INACTIVE", "INACTIVE")], max_length=20
                    ),
                ),
                (
                    "follows",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="It has no tasks of its own and comes with the line at this "
                        "position; 0: with the order.",
                        null=True,
                    ),
                ),
                ("since", models.DateTimeField()),
            ],
            options={
                "ordering": ["order_id", "position"],
            },
        ),
        migrations.AddField(
            model_name="order",
            name="customer_email",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Where the customer is told by e-mail.",
                max_length=254,
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="late_told_version",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="The order version for which the customer knows that it is late.",
            ),
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                condition=models.Q(
                    ("finished_at__isnull", True),
                    ("late_told_version__lt", models.F("version")),
                    ("promised_at__isnull", False),
                ),
                fields=["promised_at"],
                name="order_promised",
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="client",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="assets",
                to="oms.apiclient",
            ),
        ),
        migrations.AddField(
            model_name="asset",
            name="order",
            field=models.ForeignKey(
                help_text="The order that changed it last.",
                on_delete=django.db.models.deletion.PROTECT,
                related_name="assets",
                to="oms.order",
            ),
        ),
        migrations.AddField(
            model_name="notification",
            name="order",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notifications",
                to="oms.order",
            ),
        ),
        migrations.AddField(
            model_name="pendingasset",
            name="client",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="pending_assets",
                to="oms.apiclient",
            ),
        ),
        migrations.AddField(
            model_name="pendingasset",
            name="item",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="pending_asset",
                to="oms.orderitem",
            ),
        ),
        migrations.AddField(
            model_name="pendingasset",
            name="order",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="pending_assets",
                to="oms.order",
            ),
        ),
        migrations.AddIndex(
            model_name="asset",
            index=models.Index(
                fields=["customer_id", "client", "asset_id"], name="asset_by_customer"
            ),
        ),
        migrations.AddConstraint(
            model_name="asset",
            constraint=models.UniqueConstraint(
                fields=("asset_id", "client"), name="one_asset_per_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="asset",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["ACTIVE", "INACTIVE"])),
                name="asset_state_is_legal",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("state", "QUEUED")),
                fields=["next_attempt_at", "id"],
                name="notification_due",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("state", "FAILED")), fields=["id"], name="notification_failed"
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["QUEUED", "SENT", "FAILED"])),
                name="notification_state_is_legal",
            ),
        ),
        migrations.AddConstraint(
            model_name="notification",
            constraint=models.UniqueConstraint(
                fields=("order", "order_version", "occasion", "channel"),
                name="customer_is_told_once",
            ),
        ),
        migrations.AddIndex(
            model_name="pendingasset",
            index=models.Index(fields=["asset_id", "client"], name="pending_by_asset"),
        ),
        migrations.AddIndex(
            model_name="pendingasset",
            index=models.Index(
                fields=["customer_id", "client", "asset_id"], name="pending_by_customer"
            ),
        ),
        migrations.AddConstraint(
            model_name="pendingasset",
            constraint=models.UniqueConstraint(
                fields=("order", "position"), name="one_pending_asset_per_item"
            ),
        ),
        migrations.AddConstraint(
            model_name="pendingasset",
            constraint=models.CheckConstraint(
                condition=models.Q(("change__in", ["add", "modify", "disconnect"])),
                name="pending_change_is_legal",
            ),
        ),
        migrations.RunSQL(UNDER_WAY, migrations.RunSQL.noop),
    ]
