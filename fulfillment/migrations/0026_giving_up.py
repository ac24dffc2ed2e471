"""A plan may be given up or changed; until it rests, a hold of its own keeps it."""

from __future__ import annotations

from django.db import migrations, models

import fulfillment.models.hold
from fulfillment.models.hold import HoldScope
from fulfillment.states import PLAN_TERMINAL

_SCOPES = [scope.value for scope in HoldScope]


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0025_no_statistics_of_documents")]

    operations = [
        migrations.RemoveConstraint(model_name="hold", name="hold_scope_is_legal"),
        migrations.AddField(
            model_name="plan",
            name="giving_up",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="Why all of it is undone, once it rests.",
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="giving_up_what",
            field=models.JSONField(
                blank=True,
                help_text="What of it, if not all; see engine.plans.withholding.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="plan",
            name="rest_due_at",
            field=models.DateTimeField(
                blank=True,
                null=True,
                help_text="When it is next looked whether nothing of it is under way any more; "
                "empty: nobody waits for that.",
            ),
        ),
        migrations.AlterField(
            model_name="hold",
            name="scope",
            field=models.CharField(
                choices=[(scope, scope) for scope in fulfillment.models.hold.HoldScope],
                max_length=20,
            ),
        ),
        migrations.AddIndex(
            model_name="plan",
            index=models.Index(
                fields=["rest_due_at"],
                condition=models.Q(rest_due_at__isnull=False)
                & ~models.Q(state__in=sorted(PLAN_TERMINAL)),
                name="plan_rest_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.CheckConstraint(
                condition=models.Q(scope__in=_SCOPES), name="hold_scope_is_legal"
            ),
        ),
    ]
