"""Bearer API keys, and what each may do.

A key belongs to a client, a program that submits orders and sees its own, or to a person, who
operates and is asked for authority by name. Neither may use the endpoints of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth.models import User
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
    """`Authorization: Bearer oms_…`; `request.user` is the client, or the person, and
    `request.auth` the key."""

    def authenticate(self, request: Request) -> tuple[ApiClient | User, ApiKey]:
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
        if key.user is not None and not key.user.is_active:
            raise _refused(
                "auth.inactive",
                "Whose key this is does not work here any more",
                f"The user {key.user.get_username()} is not active.",
            )
        holder = key.client or key.user
        assert holder is not None, "a check of the database"
        return holder, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _refused(code: str, title: str, detail: str) -> Problem:
    return Problem(
        status=401, code=code, title=title, detail=detail, headers={"WWW-Authenticate": "Bearer"}
    )


class HasScope(BasePermission):
    """A client's key: reading needs orders:read, everything else orders:write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(holder_of(request), ApiClient):
            raise Problem(
                status=403,
                code="auth.key_of_a_person",
                title="This address is for clients",
                detail="This key is a person's. A client's key sees the client's orders and acts "
                "for it; with yours use /api/v1/operations, approvals, cases and the like.",
            )
        _check_scope(request)
        return True


class IsPerson(BasePermission):
    """A person's key, with the same scopes. What they may do is for `authorize` to say."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(holder_of(request), User):
            raise Problem(
                status=403,
                code="auth.key_of_a_client",
                title="This address is for people",
                detail="This key is a client's, and here everybody acts in their own name. "
                "`manage.py api_key create --user NAME` makes a key of a person.",
            )
        _check_scope(request)
        return True


def _check_scope(request: Request) -> None:
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


def client_of(request: Request) -> ApiClient:
    """The client whose key the request came with (`HasScope`)."""
    return cast(ApiClient, request.user)


def user_of(request: Request) -> User:
    """The person whose key the request came with (`IsPerson`)."""
    return cast(User, request.user)


def holder_of(request: Request) -> ApiClient | User:
    """Whose key the request came with."""
    return cast("ApiClient | User", request.user)


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """How the docs page asks for a key."""

    target_class = "oms.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`manage.py api_key create --client me` makes a key; "
            "with `--user me` it is a person's.",
        }
