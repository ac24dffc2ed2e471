"""Bearer API keys, and what each may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from oms.api.problems import Problem
from oms.keys import find_key
from oms.models import ApiClient, ApiKey, Scope

if TYPE_CHECKING:  # `rest_framework.views` reads the settings, which name this module
    from rest_framework.views import APIView


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer oms_…`; `request.user` is the client, `request.auth` its key."""

    def authenticate(self, request: Request) -> tuple[ApiClient, ApiKey]:
        scheme, _, text = get_authorization_header(request).decode("latin-1").partition(" ")
        if not scheme:
            raise _refused(
                "auth.missing",
                "An API key is needed",
                "Send it as `Authorization: Bearer …`. `manage.py api_key create` makes one.",
            )
        key = find_key(text.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise _refused(
                "auth.invalid",
                "This is not a key of this installation",
                "Check that the whole key is sent, as `Authorization: Bearer oms_…`.",
            )
        if key.revoked_at is not None:
            raise _refused("auth.revoked", "This key was revoked", "Ask for a new one.")
        if key.expires_at is not None and key.expires_at <= timezone.now():
            raise _refused("auth.expired", "This key has expired", "Ask for a new one.")
        return key.client, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _refused(code: str, title: str, detail: str) -> Problem:
    return Problem(
        status=401, code=code, title=title, detail=detail, headers={"WWW-Authenticate": "Bearer"}
    )


class HasScope(BasePermission):
    """Reading needs orders:read, everything else orders:write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = Scope.ORDERS_READ if request.method in SAFE_METHODS else Scope.ORDERS_WRITE
        scopes = cast(ApiKey, request.auth).scopes
        if needed not in scopes:
            raise Problem(
                status=403,
                code="auth.scope_missing",
                title="This key may not do that",
                detail=f"The request needs a key with the scope {needed}; this one has: "
                f"{', '.join(scopes) or 'none'}.",
            )
        return True


def client_of(request: Request) -> ApiClient:
    """Whose key the request came with."""
    return cast(ApiClient, request.user)


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """How the docs page asks for a key."""

    target_class = "oms.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`manage.py api_key create --client me` makes a key.",
        }
