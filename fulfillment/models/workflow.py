"""Published workflow versions and the frozen graphs made from them."""

from __future__ import annotations

import json
from typing import Any

from django.db import models


def _written() -> models.TextField[str, str]:
    return models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="The document as JSON text: jsonb does not keep the order of members. Empty in "
        "rows of older releases.",
    )


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
    written = _written()
    published_at = models.DateTimeField()
    published_by = models.CharField(max_length=150)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="one_row_per_workflow_version")
        ]
        ordering = ["name", "-version"]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def as_written(self) -> Any:
        """The document with its members in the order of the template."""
        return json.loads(self.written) if self.written else self.document


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
    written = _written()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.sha256[:12]

    @property
    def as_written(self) -> Any:
        """The document with its members in the order of the templates."""
        return json.loads(self.written) if self.written else self.document
