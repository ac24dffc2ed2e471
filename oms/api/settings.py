"""What Django REST framework and drf-spectacular are told. Imported by `oms.settings`."""

from __future__ import annotations

from typing import Any

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["oms.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["oms.api.authentication.HasScope"],
    "DEFAULT_PARSER_CLASSES": ["oms.api.parsing.StrictJsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "oms.api.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "STRICT_JSON": True,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Order engine",
    "DESCRIPTION": (
        "Submit orders, follow them, and see why one waits. Every error is a problem document "
        "(RFC 9457) whose `code` is stable."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_SETTINGS": {
        "deepLinking": True,
        "persistAuthorization": True,
        "defaultModelsExpandDepth": -1,
    },
    "TAGS": [
        {"name": "Orders", "description": "For clients that order, with an API key."},
        {"name": "Holds", "description": "To keep what was ordered from going on, for a while."},
        {"name": "Changing orders", "description": "What is under way is amended, or given up."},
        {"name": "Operations", "description": "For people: what is done by hand, by anybody."},
        {"name": "Target systems", "description": "For systems that report, with a signature."},
        {"name": "Service", "description": "For whoever runs it."},
    ],
}
