"""Published workflow versions and the frozen graphs made from them."""

from __future__ import annotations

from django.db import models


class WorkflowVersion(models.Model):
    """One published, immutable version of a workflow template.

    Read when an order is decomposed, never while it runs. The application's role may not
    UPDATE or DELETE these rows.
    """

    name = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    content_hash = models.CharField(max_length=64)
    document = models.JSONField()
    published_at = models.DateTimeField()
    published_by = models.CharField(max_length=150)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="one_row_per_workflow_version")
        ]
        ordering = ["name", "-version"]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class WorkflowSelector(models.Model):
    """Which (offering, action) a published version fulfils; the newest version wins."""

    workflow = models.ForeignKey(WorkflowVersion, models.PROTECT, related_name="selectors")
    offering = models.CharField(max_length=200)
    action = models.CharField(max_length=20)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "offering", "action"], name="one_selector_per_workflow_version"
            )
        ]
        indexes = [models.Index(fields=["offering", "action"], name="selector_by_offering")]

    def __str__(self) -> str:
        return f"{self.action} {self.offering}"


class PlanGraph(models.Model):
    """A frozen task graph, stored once per content: orders of one shape share the row."""

    sha256 = models.CharField(max_length=64, unique=True)
    document = models.JSONField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.sha256[:12]
