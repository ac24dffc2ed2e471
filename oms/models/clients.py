"""Who may use the API, and what they asked for under which key."""

from __future__ import annotations

import enum

from django.conf import settings
from django.db import models


class ApiClient(models.Model):
    """A system that submits orders. External order ids are unique within one client."""

    name = models.SlugField(max_length=60, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API client"

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """As whom the engine knows it, without knowing clients."""
        return str(self.pk)

    def business_key(self, external_id: str) -> str:
        """How the engine knows one of its orders."""
        return f"{self.owner}/{external_id}"


class Scope(enum.StrEnum):
    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"


class ApiKey(models.Model):
    """A key of a client, or of a person. Only its hash is stored; the prefix finds it and names
    it in logs."""

    client = models.ForeignKey(
        ApiClient, models.PROTECT, null=True, blank=True, related_name="keys"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="api_keys"
    )
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["client_id", "user_id", "id"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(client__isnull=True) ^ models.Q(user__isnull=True),
                name="key_is_of_a_client_or_a_person",
            )
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def holder(self) -> str:
        """Whose it is, in words."""
        return f"client {self.client.name}" if self.client else f"user {self.user}"


class Submission(models.Model):
    """The answer to one request, replayed when the same Idempotency-Key comes again.

    Lives as long as the orders that it created (draft-ietf-httpapi-idempotency-key-header).
    """

    client = models.ForeignKey(
        ApiClient, models.PROTECT, null=True, blank=True, related_name="submissions"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
    )
    idempotency_key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    response_status = models.PositiveSmallIntegerField()
    response_body = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client", "idempotency_key"], name="one_submission_per_key"
            ),
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                condition=models.Q(user__isnull=False),
                name="one_answer_per_key_of_a_person",
            ),
            models.CheckConstraint(
                condition=models.Q(client__isnull=True) ^ models.Q(user__isnull=True),
                name="answer_is_to_a_client_or_a_person",
            ),
        ]

    def __str__(self) -> str:
        return self.idempotency_key
